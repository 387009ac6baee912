"""What can be said of the loop of plant and policy together, beside what simulation shows of it.

Every module tells what is derived (a bound that follows from its premises) from what is measured (largest of samples).
"""
