// What the server said, as nodes. Only ever text: nothing that comes from a database is taken for markup.

const UNSEEN = "\\p{Cc}\\p{Cf}\\p{Co}\\p{Cn}\\p{Zl}\\p{Zp}";
// A backslash is spelled out wherever something is, and where it reads as if something were: no two texts look the same.
const AMBIGUOUS = new RegExp(`[${UNSEEN}]|\\\\[\\\\u]`, "u");
const SPELLED = new RegExp(`[${UNSEEN}\\\\]`, "gu");
const NAMED = 12;
const LONGEST = 300;

export function node(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

export function line(...children) {
  return node("p", ...children);
}

export function foreign(text) {
  const said = String(text);
  const full = AMBIGUOUS.test(said) ? said.replace(SPELLED, spelled) : said;
  const made = node("bdi", full.length > LONGEST ? `${full.slice(0, LONGEST)}…` : full);
  if (full.length > LONGEST) made.title = full.slice(0, 1000);
  return made;
}

function spelled(c) {
  return c === "\\" ? "\\\\" : `\\u{${c.codePointAt(0).toString(16)}}`;
}

export function list(items) {
  return node("ul", ...items.map((item) => node("li", item)));
}

function job(found) {
  const kind = node("b", foreign(found.kind ?? "no kind"));
  const id = node("code", foreign(found.id));
  return node("div", kind, " ", id, node("div", foreign(found.why)));
}

export function sweeps(answer) {
  const many = answer.sweeps.length + answer.not_swept.length > 1;
  const parts = answer.sweeps.flatMap((each) => sweep(each, many));
  return [...parts, ...answer.not_swept.map((each) => line(foreign(`${each.source}: ${each.detail}`)))];
}

function sweep(done, named) {
  const parts = named ? [line(node("b", foreign(done.source)))] : [];
  if (done.error) parts.push(line(foreign(done.error)));
  const jobs = done.would_reap.slice(0, NAMED);
  // The first line counts what is not named, of more than are named here.
  const lines = done.lines.filter((each) => !(done.dry_run && each.startsWith("... and ")));
  parts.push(...lines.map((each) => line(foreign(each))));
  if (jobs.length) parts.push(list(jobs.map(job)));
  const more = (done.dry_run && done.census ? done.census.stale : 0) - jobs.length;
  if (jobs.length && more > 0) parts.push(line(`… and ${more} more.`));
  return parts;
}

export function explained(found) {
  const facts = [
    ["Job", found.id],
    ["Kind", found.kind ?? "none"],
    ["Verdict", `${found.verdict}: ${found.why}`],
    ["Status", found.status ?? "none"],
    ["Started", found.started ?? "unknown"],
    ["Last sign of life", found.last_sign ? `${found.last_sign} (${found.witness})` : "none"],
  ];
  const rows = facts.map(([name, value]) => node("div", node("dt", name), node("dd", foreign(value))));
  const made = node("dl", ...rows);
  made.className = "facts";
  return made;
}
