// Makes one tree like another with as few changes as possible: what stays keeps its focus, its scroll position and
// whether it is open. Whatever bears `data-keep` belongs to the reader, and stays as it is.

export function prepare(tree) {
  // What only works with JavaScript is hidden without it.
  for (const each of tree.querySelectorAll(".needs-js, [data-act], [data-needs-js]")) each.removeAttribute("hidden");
  // The server tells no time of its own: where no database told one, it is this machine's.
  for (const each of tree.querySelectorAll("[data-ago]")) {
    each.title = new Date(Date.now() - 1000 * Number(each.dataset.ago)).toLocaleString();
  }
  return tree;
}

export function morph(old, fresh) {
  if (old.dataset && "keep" in old.dataset) return;
  morphAttributes(old, fresh);
  const named = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const found = wanted.id ? named.get(wanted.id) : place && !place.id && alike(place, wanted) ? place : null;
    if (found) {
      if (found === place) place = place.nextSibling;
      else old.insertBefore(found, place);
      if (found.nodeType === Node.ELEMENT_NODE) morph(found, wanted);
      else if (found.data !== wanted.data) found.data = wanted.data;
    } else {
      old.insertBefore(wanted, place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    if (place.contains(document.activeElement)) focusNear(place);
    place.remove();
    place = next;
  }
}

function alike(old, wanted) {
  return old.nodeType === wanted.nodeType && old.nodeName === wanted.nodeName && !wanted.id;
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
  // Whoever works with the keyboard goes on where the thing was, and not at the top of the page.
  const heading = gone.closest("section")?.querySelector("h1, h2") ?? document.getElementById("content");
  heading.setAttribute("tabindex", "-1");
  heading.focus({ preventScroll: true });
}
