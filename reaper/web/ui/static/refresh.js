// Fetches the changing part of the page every few seconds while the tab is visible, and updates what has changed.
// It waits while a dialog is open, while text is selected, and while the reader has paused it.
import { morph, prepare } from "./morph.js";

const INTERVAL_MS = 3000;
const LONGEST_INTERVAL_MS = 30000;
const OLD_MS = 10000;

export function keepFresh() {
  const live = document.getElementById("live");
  const pause = document.getElementById("pause");
  const freshness = document.getElementById("freshness");
  const silent = document.getElementById("silent");
  let etag = null;
  let paused = false;
  let wait = INTERVAL_MS;
  let timer = null;
  let answeredAt = performance.now();
  let asking = false;

  function pauseReason() {
    if (paused) return "Paused";
    if (document.querySelector("dialog[open]")) return "Paused: a dialog is open";
    const selection = document.getSelection();
    const selects = selection && !selection.isCollapsed && live.contains(selection.anchorNode);
    return selects ? "Paused: text is selected" : null;
  }

  function showFreshness() {
    const reason = pauseReason();
    const age = performance.now() - answeredAt;
    freshness.className = reason ? "freshness paused" : age > OLD_MS ? "freshness" : "freshness live";
    freshness.textContent = reason ?? (age > OLD_MS ? "Not fresh" : "Live");
    const lost = !reason && age > OLD_MS;
    if (silent.hidden === lost) {
      silent.hidden = !lost;
      silent.textContent = lost ? "The daemon does not answer: what you see is its last answer." : "";
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
      answeredAt = performance.now();
      wait = INTERVAL_MS;
    } catch {
      wait = Math.min(2 * wait, LONGEST_INTERVAL_MS); // the banner says so; the console has the request
    } finally {
      asking = false;
    }
  }

  async function show(answer) {
    if (!answer.headers.get("content-type")?.startsWith("text/html")) throw new Error("no page");
    const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = parsed.getElementById("live");
    if (!fresh) throw new Error("no page");
    if (pauseReason()) return; // it may have been paused meanwhile
    const before = live.dataset.announcement;
    morph(live, document.adoptNode(prepare(fresh)));
    etag = answer.headers.get("etag");
    document.title = live.dataset.title;
    if (live.dataset.announcement !== before) document.getElementById("announcer").textContent = live.dataset.announcement;
  }

  async function turn() {
    clearTimeout(timer);
    if (document.visibilityState === "visible" && !pauseReason()) await refresh();
    showFreshness();
    timer = setTimeout(turn, wait);
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Resume" : "Pause";
    answeredAt = performance.now();
    turn();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") turn();
  });
  document.addEventListener("selectionchange", showFreshness);
  showFreshness();
  timer = setTimeout(turn, INTERVAL_MS);
  return turn;
}
