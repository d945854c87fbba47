// Answers of the server as nodes. Everything becomes text: nothing that comes from a database is taken for markup.

const UNSEEN = "\\p{Cc}\\p{Cf}\\p{Co}\\p{Cn}\\p{Zl}\\p{Zp}";
// A backslash is escaped too where a text holds such characters or looks as if it did: no two texts look the same.
const AMBIGUOUS = new RegExp(`[${UNSEEN}]|\\\\[\\\\u]`, "u");
const ESCAPED = new RegExp(`[${UNSEEN}\\\\]`, "gu");
const NAMED = 12;
const LONGEST = 300;

export function node(name, ...children) {
  const element = document.createElement(name);
  element.append(...children);
  return element;
}

export function line(...children) {
  return node("p", ...children);
}

export function untrusted(value) {
  const text = String(value);
  const full = AMBIGUOUS.test(text) ? text.replace(ESCAPED, escaped) : text;
  const element = node("bdi", full.length > LONGEST ? `${full.slice(0, LONGEST)}…` : full);
  if (full.length > LONGEST) element.title = full.slice(0, 1000);
  return element;
}

function escaped(c) {
  return c === "\\" ? "\\\\" : `\\u{${c.codePointAt(0).toString(16)}}`;
}

export function list(items) {
  return node("ul", ...items.map((item) => node("li", item)));
}

function jobLine(job) {
  const kind = node("b", untrusted(job.kind ?? "no kind"));
  const id = node("code", untrusted(job.id));
  return node("div", kind, " ", id, node("div", untrusted(job.why)));
}

export function sweeps(answer) {
  const many = answer.sweeps.length + answer.not_swept.length > 1;
  const parts = answer.sweeps.flatMap((report) => sweep(report, many));
  return [...parts, ...answer.not_swept.map(({ source, detail }) => line(untrusted(`${source}: ${detail}`)))];
}

function sweep(report, named) {
  const parts = named ? [line(node("b", untrusted(report.source)))] : [];
  if (report.error) parts.push(line(untrusted(report.error)));
  const jobs = report.would_reap.slice(0, NAMED);
  // The line with the number of jobs that are not named counts more names than are shown here.
  const lines = report.lines.filter((text) => !(report.dry_run && text.startsWith("... and ")));
  parts.push(...lines.map((text) => line(untrusted(text))));
  if (jobs.length) parts.push(list(jobs.map(jobLine)));
  const more = (report.dry_run && report.census ? report.census.stale : 0) - jobs.length;
  if (jobs.length && more > 0) parts.push(line(`… and ${more} more.`));
  return parts;
}

export function jobFacts(job) {
  const facts = [
    ["Job", job.id],
    ["Kind", job.kind ?? "none"],
    ["Verdict", `${job.verdict}: ${job.why}`],
    ["Status", job.status ?? "none"],
    ["Started", job.started ?? "unknown"],
    ["Last sign of life", job.last_sign ? `${job.last_sign} (${job.witness})` : "none"],
  ];
  const rows = facts.map(([name, value]) => node("div", node("dt", name), node("dd", untrusted(value))));
  const element = node("dl", ...rows);
  element.className = "facts";
  return element;
}
