// Makes one tree equal to another with as few changes as possible: elements that stay keep focus, scroll position and
// whether they are open. An element with `data-keep` belongs to the reader, and is not changed.

export function prepare(tree) {
  // What only works with JavaScript is hidden without it.
  for (const element of tree.querySelectorAll(".needs-js, [data-act], [data-needs-js]")) element.removeAttribute("hidden");
  // The server shows no clock but the databases': where those gave no moment, this machine's clock is used.
  for (const element of tree.querySelectorAll("[data-ago]")) {
    element.title = new Date(Date.now() - 1000 * Number(element.dataset.ago)).toLocaleString();
  }
  return tree;
}

export function morph(old, fresh) {
  if (old.dataset && "keep" in old.dataset) return;
  morphAttributes(old, fresh);
  const byId = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = old.firstChild;
  for (const target of [...fresh.childNodes]) {
    const match = target.id ? byId.get(target.id) : place && !place.id && alike(place, target) ? place : null;
    if (match) {
      if (match === place) place = place.nextSibling;
      else old.insertBefore(match, place);
      if (match.nodeType === Node.ELEMENT_NODE) morph(match, target);
      else if (match.data !== target.data) match.data = target.data;
    } else {
      old.insertBefore(target, place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    if (place.contains(document.activeElement)) focusNear(place);
    place.remove();
    place = next;
  }
}

function alike(old, target) {
  return old.nodeType === target.nodeType && old.nodeName === target.nodeName && !target.id;
}

function morphAttributes(old, fresh) {
  for (const { name, value } of [...fresh.attributes]) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
}

function focusNear(gone) {
  // Keyboard users continue where the element was, and not at the top of the page.
  const heading = gone.closest("section")?.querySelector("h1, h2") ?? document.getElementById("content");
  heading.setAttribute("tabindex", "-1");
  heading.focus({ preventScroll: true });
}
