// Fetches the page's changing part every few seconds while somebody can see it, and changes what has changed.
// It waits while a dialog is open, while text is selected, and while the reader has said so.
import { morph, prepare } from "./morph.js";

const EVERY = 3000;
const SELDOM = 30000;
const OLD = 10000;

export function keepFresh() {
  const live = document.getElementById("live");
  const pause = document.getElementById("pause");
  const freshness = document.getElementById("freshness");
  const silent = document.getElementById("silent");
  let etag = null;
  let paused = false;
  let wait = EVERY;
  let timer = null;
  let heard = performance.now();
  let asking = false;

  function inTheWay() {
    if (paused) return "Paused";
    if (document.querySelector("dialog[open]")) return "Paused: a dialog is open";
    const selection = document.getSelection();
    const selects = selection && !selection.isCollapsed && live.contains(selection.anchorNode);
    return selects ? "Paused: text is selected" : null;
  }

  function tell() {
    const why = inTheWay();
    const age = performance.now() - heard;
    freshness.className = why ? "freshness paused" : age > OLD ? "freshness" : "freshness live";
    freshness.textContent = why ?? (age > OLD ? "Not fresh" : "Live");
    const lost = !why && age > OLD;
    if (silent.hidden === lost) {
      silent.hidden = !lost;
      silent.textContent = lost ? "The daemon does not answer: what you see is what it said last." : "";
    }
  }

  async function refresh() {
    if (asking) return;
    asking = true;
    try {
      const url = new URL(location.href);
      url.searchParams.set("part", "live");
      const headers = etag ? { "If-None-Match": etag } : {};
      const answer = await fetch(url, { headers, cache: "no-store", signal: AbortSignal.timeout(20000) });
      if (answer.status !== 304) await show(answer);
      heard = performance.now();
      wait = EVERY;
    } catch {
      wait = Math.min(2 * wait, SELDOM); // the banner tells it; the console has the request
    } finally {
      asking = false;
    }
  }

  async function show(answer) {
    if (!answer.headers.get("content-type")?.startsWith("text/html")) throw new Error("no page");
    const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = parsed.getElementById("live");
    if (!fresh) throw new Error("no page");
    if (inTheWay()) return; // since it was asked for
    const told = live.dataset.told;
    morph(live, document.adoptNode(prepare(fresh)));
    etag = answer.headers.get("etag");
    document.title = live.dataset.title;
    if (live.dataset.told !== told) document.getElementById("announcer").textContent = live.dataset.told;
  }

  async function turn() {
    clearTimeout(timer);
    if (document.visibilityState === "visible" && !inTheWay()) await refresh();
    tell();
    timer = setTimeout(turn, wait);
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Resume" : "Pause";
    heard = performance.now();
    turn();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") turn();
  });
  document.addEventListener("selectionchange", tell);
  tell();
  timer = setTimeout(turn, EVERY);
  return turn;
}
