// Elements from values. Text is always text: nothing a label says can become markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, set] of Object.entries(value)) element.style.setProperty(key, set);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

const shown = new WeakMap();

/** Show what `make` gives in `place`, but only where `value` is not what it shows already. */
export function show(place, value, make) {
  const key = JSON.stringify(value);
  if (shown.get(place) === key) return false;
  shown.set(place, key);
  const focus = reached(place).indexOf(document.activeElement);
  place.replaceChildren(...[make()].flat(Infinity).filter(Boolean));
  // Who works with the keyboard stays where they were, although the element is a new one.
  if (focus >= 0) reached(place)[focus]?.focus({ preventScroll: true });
  return true;
}

const reached = (place) => [...place.querySelectorAll("a[href], button, summary, [tabindex]")];

const tip = document.getElementById("tip");

/** Show a tooltip beside a point of the window. */
export function showTip(content, x, y, above = false) {
  tip.replaceChildren(...[content].flat());
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 14 + box.width > innerWidth ? x - 14 - box.width : x + 14;
  const top = above ? y - box.height - 14 : y - box.height / 2;
  tip.style.left = `${Math.max(6, Math.min(left, innerWidth - box.width - 6))}px`;
  tip.style.top = `${Math.max(6, Math.min(top, innerHeight - box.height - 6))}px`;
}

export function hideTip() {
  tip.hidden = true;
}

/** Attributes that give an element a tooltip on hover and on focus. */
export function tipped(make) {
  const open = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    showTip(make(), event.clientX || box.right, box.top, true);
  };
  return { tabindex: 0, onmouseenter: open, onmousemove: open, onfocus: open, onmouseleave: hideTip, onblur: hideTip };
}
