// What keeps people from using a page who cannot see it well, or not at all: to be evaluated in the page.
() => {
  const found = [];
  const all = (selector) => [...document.querySelectorAll(selector)].filter((each) => each.checkVisibility());
  const html_of = (each) => each.outerHTML.slice(0, 160);

  const controls = "a, button, input, select, textarea, summary, dialog, nav, form, [role=img], [role=region], [role=group]";
  for (const each of all(controls)) {
    const by = (each.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id));
    const labels = [...by, ...(each.labels ?? [])].map((label) => label?.textContent);
    const own = each.matches("a, button, summary") ? each.textContent : "";
    const names = [each.getAttribute("aria-label"), own, ...labels];
    if (!each.matches("nav, form") || each.role) {
      if (!names.some((name) => name?.trim())) found.push(`nameless: ${html_of(each)}`);
    }
  }

  for (const name of ["aria-labelledby", "aria-describedby", "for", "list"]) {
    for (const each of document.querySelectorAll(`[${name}]`)) {
      const missing = each.getAttribute(name).split(" ").filter((id) => !document.getElementById(id));
      if (missing.length) found.push(`dangling ${name}: ${missing}`);
    }
  }

  const parse = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = (each) => {
    for (let at = each; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = new Set();
  while (walk.nextNode()) {
    const each = walk.currentNode.parentElement;
    const text = walk.currentNode.data.trim();
    if (!text || !each.checkVisibility() || each.closest("title, desc, option, noscript, :disabled, .unseen, .skip")) continue;
    const style = getComputedStyle(each);
    const ink = parse(each.closest("svg") ? style.fill : style.color);
    const [dim, bright] = [luminance(ink), luminance(ground(each))].sort((a, b) => a - b);
    const contrast = (bright + 0.05) / (dim + 0.05);
    if (contrast < 4.5) faint.add(`faint, ${contrast.toFixed(2)}: ${text.slice(0, 60)}`);
  }
  found.push(...faint);

  for (const each of all("button, select, input:not([type=checkbox])")) {
    if (each.getBoundingClientRect().height < 24) found.push(`small: ${html_of(each)}`);
  }
  for (const name of ["h1", "main", "body > header", "body > footer"]) {
    if (document.querySelectorAll(name).length !== 1) found.push(`not just one: ${name}`);
  }
  const levels = [...document.querySelectorAll("main :is(h1, h2, h3)")].map((each) => Number(each.tagName[1]));
  if (levels[0] !== 1 || levels.some((level, n) => n && level - levels[n - 1] > 1)) found.push(`headings jump: ${levels}`);
  if (document.documentElement.lang !== "en") found.push("no language");
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) found.push(`to be scrolled sideways: ${root.scrollWidth}`);
  return found;
}
