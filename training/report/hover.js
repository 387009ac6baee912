"use strict";
const tip = document.getElementById("tip");
const hide = () => tip.classList.remove("shown");
document.addEventListener("pointermove", (event) => {
  const target = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
  if (!target) return hide();
  tip.textContent = target.getAttribute("data-tip");
  tip.classList.add("shown");
  const edge = window.innerWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 12, edge))}px`;
  tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 10)}px`;
});
document.addEventListener("pointerleave", hide);
