// What can be done from the page. Each action shows what the server says it would do, and is done when somebody has
// confirmed that.
import { bear, Cancelled, change as changeWhile, offerForgetting, read } from "./asking.js";
import { explained, foreign, line, list, node, sweeps } from "./previews.js";

const dialog = document.getElementById("act");
const part = (name) => document.getElementById(`act-${name}`);

// There is one dialog for all of them. Whose it is has a number: an answer that comes when it is somebody else's, or
// closed, touches nothing in it.
let turn = 0;

const ACTIONS = {
  "dry-run": {
    title: ({ source }) => `Dry run of ${source}`,
    lead: () => "What a sweep would do now. Nothing is changed.",
    preview: async ({ source, change }) => sweeps(await change("/api/sweeps", { source, dry_run: true })),
  },
  sweep: {
    title: ({ source }) => `Sweep ${source} now`,
    lead: () => "This is what the sweep would do. Each job is judged again before it is ended.",
    preview: async ({ source, change }) => sweeps(await change("/api/sweeps", { source, dry_run: true })),
    confirm: () => "Sweep now",
    run: async ({ source, change }) => sweeps(await change("/api/sweeps", { source })),
  },
  release: {
    title: ({ source }) => `Release the breaker of ${source}`,
    lead: () => "Nearly everything fell silent at once. If its workers only could not be heard, this kills what lives.",
    preview: release,
    count: ({ held }) => held,
    confirm: ({ held }) => `End ${held} jobs`,
    danger: true,
    run: async ({ source, held, change }) => sweeps(await change("/api/sweeps", { source, release: held })),
  },
  halt: {
    title: () => "Halt the supervisor",
    lead: () =>
      "From now on this daemon's sweeps only look, in every source, and end nothing. A sweep that works ends after its batch. " +
      "Where several replicas run, halt every one: the lease does not outlive a lost connection.",
    preview: standing,
    reason: "For whoever finds it halted.",
    persist: true,
    confirm: () => "Halt",
    danger: true,
    run: async ({ reason, persist, change }) => {
      const said = new URLSearchParams({ persist: String(persist), ...(reason && { reason }) });
      const now = await change(`/api/supervisor/halt?${said}`);
      return [line(`The supervisor is ${now.state}.`)];
    },
  },
  restart: {
    title: () => "Restart the supervisor",
    lead: () => "Each source is swept at once. This is what those sweeps would do.",
    preview: async ({ change }) => sweeps(await change("/api/sweeps", { dry_run: true })),
    confirm: () => "Restart",
    run: async ({ change }) => [line(`The supervisor is ${(await change("/api/supervisor/restart")).state}.`)],
  },
  fail: ending("Fail", "It is marked as failed with your reason, whatever its signs of life. Its worker is not told: end it first.", true),
  requeue: ending("Requeue", "It is put back in its queue with your reason, whatever its signs of life. Its worker is not told: end it first.", false),
};

function ending(name, lead, danger) {
  return {
    title: () => `${name} one job`,
    lead: () => lead,
    preview: evidence,
    reason: "It is written to the job and to its audit event.",
    required: true,
    confirm: ({ gone }) => (gone ? null : name),
    danger,
    run: async ({ job, decided, reason, change }) => {
      const done = await change(`/api${job}/${name.toLowerCase()}`, { started: decided, reason });
      return [line(foreign(done.message))];
    },
  };
}

async function evidence(deed) {
  const found = await read(`/api${deed.job}`);
  deed.decided = found.job.started;
  deed.gone = found.job.verdict === "ended";
  const parts = [explained(found.job)];
  if (deed.gone) parts.unshift(line("It does not run any more."));
  else if ((found.job.started ?? "") !== deed.started) parts.unshift(line("It was started anew since the page showed it."));
  return parts;
}

async function release(deed) {
  const [last] = (await read(`/api/sweeps?${new URLSearchParams({ source: deed.source, limit: 1 })}`)).sweeps;
  deed.held = last?.outcome === "held" && last.census ? last.census.stale : Number(deed.count);
  return sweeps(await deed.change("/api/sweeps", { source: deed.source, dry_run: true }));
}

async function standing() {
  const [state, jobs] = await Promise.all([read("/api/supervisor/state"), read("/api/jobs?verdict=stale&limit=1")]);
  const works = state.sources.filter((each) => each.sweeping).map((each) => each.name);
  const told = jobs.sources.map((each) => `${each.source}: ${each.census ? `${each.census.stale} stale of ${each.census.running} running stay as they are` : each.error}`);
  const elsewhere = state.sources.filter((each) => each.leads === false).map(led);
  return [...elsewhere, list(told.map(foreign)), ...(works.length ? [line(foreign(`Being swept just now: ${works.join(", ")}`))] : [])];
}

function led({ name, outcome }) {
  const by = outcome === "standby" ? "is swept by another replica" : "may be swept by another replica";
  return line(node("b", foreign(`${name} ${by}; this halt does not reach it: halt that one too.`)));
}

export function offerActions(refresh) {
  if (!dialog) return;
  offerForgetting();
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-act]");
    if (button) open(ACTIONS[button.dataset.act], { ...button.dataset });
  });
  part("cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    if (!dialog.open) turn++; // and not while it is the next one's already: this is told a moment later
    refresh();
  });
}

async function open(action, shown) {
  const mine = ++turn;
  const deed = { ...shown, mine, change: (path, body) => changeWhile(() => mine === turn, path, body) };
  try {
    await bear();
  } catch (error) {
    if (error instanceof Cancelled) return;
    throw error;
  }
  if (mine !== turn) return;
  lay(action, deed);
  dialog.showModal();
  part("title").focus();
  await attempt(mine, () => action.preview(deed), (told) => {
    part("preview").replaceChildren(...told);
    ready(action, deed);
  });
}

function lay(action, deed) {
  part("title").textContent = action.title(deed);
  part("lead").textContent = action.lead(deed);
  part("preview").replaceChildren(line("Asking the daemon …"));
  part("reason-field").hidden = action.reason === undefined;
  part("reason-hint").textContent = action.reason ?? "";
  part("reason").required = Boolean(action.required);
  part("persist-field").hidden = !action.persist;
  part("count-field").hidden = true;
  part("confirm").hidden = true;
  part("cancel").textContent = action.confirm ? "Cancel" : "Close";
  for (const name of ["reason", "count"]) part(name).value = "";
  part("persist").checked = false;
  part("count").oninput = null;
  dialog.querySelector("form").onsubmit = (event) => event.preventDefault();
  say("");
}

function ready(action, deed) {
  const name = action.confirm?.(deed);
  const button = part("confirm");
  button.hidden = !name;
  button.textContent = name ?? "";
  button.className = action.danger ? "button danger filled" : "button primary";
  part("count-field").hidden = !action.count;
  const enough = () => !action.count || part("count").value.trim() === String(action.count(deed));
  if (action.count) part("count-label").textContent = `Type ${action.count(deed)}, the number of jobs that the breaker holds`;
  button.disabled = !enough();
  part("count").oninput = () => (button.disabled = !enough());
  dialog.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    if (!button.hidden && !dialog.hasAttribute("aria-busy") && enough()) confirm(action, deed);
  };
  const first = ["reason", "count"].find((each) => !part(`${each}-field`).hidden);
  if (first && !dialog.contains(document.activeElement?.closest("input, button"))) part(first).focus();
}

async function confirm(action, deed) {
  const said = { ...deed, reason: part("reason").value.trim(), persist: part("persist").checked };
  if (action.required && !said.reason) return say("Say why: it is written down.", "bad");
  part("confirm").disabled = true;
  await attempt(deed.mine, () => action.run(said), (told) => {
    part("preview").replaceChildren(...told);
    for (const name of ["reason-field", "count-field", "persist-field", "confirm"]) part(name).hidden = true;
    part("cancel").textContent = "Close";
    part("cancel").focus();
    say("Done.", "good");
  });
  if (deed.mine === turn) part("confirm").disabled = false;
}

async function attempt(mine, ask, show) {
  dialog.setAttribute("aria-busy", "true");
  say("");
  try {
    const told = await ask();
    if (mine === turn) show(told);
  } catch (error) {
    if (mine !== turn) return;
    if (error instanceof Cancelled) dialog.close();
    else refused(error);
  } finally {
    if (mine === turn) dialog.removeAttribute("aria-busy");
  }
}

function refused(error) {
  say(error.message, "bad");
  if (error.status === 409 && error.told && "job" in error.told) {
    // What was decided on is no longer so: whoever still wants it has to look again.
    part("preview").replaceChildren(line("What it is now:"), error.told.job ? explained(error.told.job) : line("It is gone."));
    part("confirm").hidden = true;
    part("reason-field").hidden = true;
    part("cancel").textContent = "Close";
    part("cancel").focus();
  }
}

function say(text, tone = "") {
  part("said").textContent = text;
  part("said").className = `said ${tone}`;
}
