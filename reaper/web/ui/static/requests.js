// Requests that change something, and their token: it is asked for once, and kept until this tab is closed.

const KEPT = "reaper-token";
const dialog = document.getElementById("ask");
const forget = document.getElementById("forget");

export class Refused extends Error {
  constructor(status, body) {
    super(body?.detail ?? `the daemon answered ${status}`);
    this.status = status;
    this.body = body;
  }
}

export class Cancelled extends Error {}

export async function read(path) {
  return bodyOf(await fetch(path, { cache: "no-store" }));
}

// `wanted()` is false once the dialog is closed: then no other token is asked for.
export async function change(wanted, path, body) {
  for (let wrong = ""; ; ) {
    const token = await requireToken(wrong);
    const headers = { Authorization: `Bearer ${token}` };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch(path, { method: "POST", headers, body: body && JSON.stringify(body), cache: "no-store" });
    if (answer.status !== 401) return bodyOf(answer);
    if (sessionStorage.getItem(KEPT) === token) forgetToken();
    if (!wanted()) throw new Cancelled();
    wrong = "This is not one of its tokens.";
  }
}

export async function requireToken(wrong = "") {
  return sessionStorage.getItem(KEPT) ?? (await ask(wrong));
}

async function bodyOf(answer) {
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}

function ask(wrong) {
  const field = document.getElementById("ask-token");
  field.value = "";
  document.getElementById("ask-said").textContent = wrong;
  dialog.showModal();
  field.focus();
  return new Promise((resolve, reject) => {
    dialog.querySelector("form").onsubmit = () => {
      sessionStorage.setItem(KEPT, field.value.trim());
      forget.hidden = false;
    };
    document.getElementById("ask-cancel").onclick = () => dialog.close();
    dialog.addEventListener(
      "close",
      () => {
        field.value = "";
        const kept = sessionStorage.getItem(KEPT);
        if (kept) resolve(kept);
        else reject(new Cancelled());
      },
      { once: true },
    );
  });
}

function forgetToken() {
  sessionStorage.removeItem(KEPT);
  forget.hidden = true;
}

export function offerForgetting() {
  forget.hidden = sessionStorage.getItem(KEPT) === null;
  forget.addEventListener("click", () => {
    forgetToken();
    document.getElementById("pause").focus();
  });
}
