// The page's actions. Each shows a preview of what it would do, made by the server, and is done after a confirmation.
import { Cancelled, change as changeWhile, offerForgetting, read, requireToken } from "./requests.js";
import { jobFacts, line, list, node, sweeps, untrusted } from "./previews.js";

const dialog = document.getElementById("act");
const part = (name) => document.getElementById(`act-${name}`);

// All actions share one dialog. Each opening has a number: an answer that comes after the dialog was closed or opened
// for another action changes nothing in it.
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
    title: ({ source, guard }) => `Release the ${guard} of ${source}`,
    lead: ({ guard }) =>
      `${guard === "cap" ? "Many jobs were ended in a short time" : "Nearly everything fell silent at once"}. If only the signs of life are missing, this ends jobs that are alive.`,
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
    preview: haltPreview,
    reason: "For the operator who finds it halted.",
    persist: true,
    confirm: () => "Halt",
    danger: true,
    run: async ({ reason, persist, change }) => {
      const query = new URLSearchParams({ persist: String(persist), ...(reason && { reason }) });
      const now = await change(`/api/supervisor/halt?${query}`);
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
  hold: {
    title: () => "Hold one job",
    lead: () => "Nothing ends it for a while, however stale it is: no sweep, no command, no task and no request. It is judged and shown as before.",
    preview: evidence,
    reason: "It is shown with the hold.",
    required: true,
    time: "3h",
    confirm: () => "Hold",
    run: async ({ job, reason, time, change }) => {
      const held = await change(jobAction(job, "hold"), { duration: time, reason });
      return [line(untrusted(`Held until ${held.until}.`)), ...held.notes.map((note) => line(untrusted(note)))];
    },
  },
  unhold: {
    title: () => "Take the hold on a job back",
    lead: () => "The next sweep ends it if it is stale.",
    preview: evidence,
    confirm: () => "Take back",
    run: async ({ job, change }) => {
      await change(jobAction(job, "unhold"));
      return [line("It is no longer held.")];
    },
  },
  fail: ending("Fail", "It is marked as failed with your reason, whatever its signs of life. Its worker is not stopped: stop it first.", true),
  requeue: ending("Requeue", "It is put back in its queue with your reason, whatever its signs of life. Its worker is not stopped: stop it first.", false),
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
      const done = await change(jobAction(job, name.toLowerCase()), { started: decided, reason });
      return [line(untrusted(done.message))];
    },
  };
}

function jobAction(job, name) {
  const [path, query] = job.split("?");
  return `/api${path}/${name}${query ? `?${query}` : ""}`;
}

async function evidence(request) {
  const answer = await read(`/api${request.job}`);
  request.decided = answer.job.started;
  request.gone = answer.job.verdict === "ended";
  const parts = [jobFacts(answer.job)];
  if (request.gone) parts.unshift(line("It does not run any more."));
  else if ((answer.job.started ?? "") !== request.started) parts.unshift(line("It has been started again since the page showed it."));
  return parts;
}

async function release(request) {
  const [last] = (await read(`/api/sweeps?${new URLSearchParams({ source: request.source, limit: 1 })}`)).sweeps;
  request.held = last?.outcome === "held" && last.census ? last.census.stale : Number(request.count);
  return sweeps(await request.change("/api/sweeps", { source: request.source, dry_run: true }));
}

async function haltPreview() {
  const [state, jobs] = await Promise.all([read("/api/supervisor/state"), read("/api/jobs?verdict=stale&limit=1")]);
  const works = state.sources.filter((source) => source.sweeping).map((source) => source.name);
  const counts = jobs.sources.map(({ source, census, error }) => `${source}: ${census ? `${census.stale} stale of ${census.running} running stay as they are` : error}`);
  const elsewhere = state.sources.filter((source) => source.leads === false).map(otherReplica);
  return [...elsewhere, list(counts.map(untrusted)), ...(works.length ? [line(untrusted(`Being swept just now: ${works.join(", ")}`))] : [])];
}

function otherReplica({ name, outcome }) {
  const by = outcome === "standby" ? "is swept by another replica" : "may be swept by another replica";
  return line(node("b", untrusted(`${name} ${by}; this halt does not reach it: halt that one too.`)));
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
    if (!dialog.open) turn++; // the event comes a moment later: the dialog may be open again already
    refresh();
  });
}

async function open(action, shown) {
  const mine = ++turn;
  const request = { ...shown, mine, change: (path, body) => changeWhile(() => mine === turn, path, body) };
  try {
    await requireToken();
  } catch (error) {
    if (error instanceof Cancelled) return;
    throw error;
  }
  if (mine !== turn) return;
  reset(action, request);
  dialog.showModal();
  part("title").focus();
  await attempt(mine, () => action.preview(request), (nodes) => {
    part("preview").replaceChildren(...nodes);
    ready(action, request);
  });
}

function reset(action, request) {
  part("title").textContent = action.title(request);
  part("lead").textContent = action.lead(request);
  part("preview").replaceChildren(line("Asking the daemon …"));
  part("reason-field").hidden = action.reason === undefined;
  part("reason-hint").textContent = action.reason ?? "";
  part("reason").required = Boolean(action.required);
  part("persist-field").hidden = !action.persist;
  part("count-field").hidden = true;
  part("time-field").hidden = action.time === undefined;
  part("time").value = action.time ?? "";
  part("confirm").hidden = true;
  part("cancel").textContent = action.confirm ? "Cancel" : "Close";
  for (const name of ["reason", "count"]) part(name).value = "";
  part("persist").checked = false;
  part("count").oninput = null;
  dialog.querySelector("form").onsubmit = (event) => event.preventDefault();
  say("");
}

function ready(action, request) {
  const name = action.confirm?.(request);
  const button = part("confirm");
  button.hidden = !name;
  button.textContent = name ?? "";
  button.className = action.danger ? "button danger filled" : "button primary";
  part("count-field").hidden = !action.count;
  const enough = () => !action.count || part("count").value.trim() === String(action.count(request));
  if (action.count) part("count-label").textContent = `Type ${action.count(request)}, the number of jobs that the ${request.guard} holds`;
  button.disabled = !enough();
  part("count").oninput = () => (button.disabled = !enough());
  dialog.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    if (!button.hidden && !dialog.hasAttribute("aria-busy") && enough()) confirm(action, request);
  };
  const firstField = ["reason", "count"].find((name) => !part(`${name}-field`).hidden);
  if (firstField && !dialog.contains(document.activeElement?.closest("input, button"))) part(firstField).focus();
}

async function confirm(action, request) {
  const confirmed = { ...request, reason: part("reason").value.trim(), persist: part("persist").checked, time: part("time").value.trim() };
  if (action.required && !confirmed.reason) return say("Give a reason: it is written to the audit event.", "bad");
  part("confirm").disabled = true;
  await attempt(request.mine, () => action.run(confirmed), (nodes) => {
    part("preview").replaceChildren(...nodes);
    for (const name of ["reason-field", "count-field", "time-field", "persist-field", "confirm"]) part(name).hidden = true;
    part("cancel").textContent = "Close";
    part("cancel").focus();
    say("Done.", "good");
  });
  if (request.mine === turn) part("confirm").disabled = false;
}

async function attempt(mine, ask, show) {
  dialog.setAttribute("aria-busy", "true");
  say("");
  try {
    const nodes = await ask();
    if (mine === turn) show(nodes);
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
  if (error.status === 409 && error.body && "job" in error.body) {
    // The job has changed since the decision: it has to be looked at and decided on again.
    part("preview").replaceChildren(line("What it is now:"), error.body.job ? jobFacts(error.body.job) : line("It is gone."));
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
