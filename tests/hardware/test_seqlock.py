import multiprocessing

import numpy as np

from fermo.hardware.seqlock import SeqlockBlock


def _count_up(block: SeqlockBlock, rounds: int) -> None:
    for value in range(1, rounds + 1):
        block.write(np.full(64, float(value)))


def test_a_reader_never_sees_half_a_block() -> None:
    context = multiprocessing.get_context("spawn")
    block = SeqlockBlock(context, 64)
    writer = context.Process(target=_count_up, args=(block, 20_000))
    writer.start()
    last = 0
    while writer.is_alive():
        count, values = block.read()
        assert (values == values[0]).all()
        assert count >= last
        last = count
    writer.join()
    count, values = block.read()
    assert (count, values[0]) == (20_000, 20_000.0)
