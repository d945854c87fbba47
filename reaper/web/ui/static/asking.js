// Requests that change something, and the token that they need: asked for once, kept for this tab alone.

const KEPT = "reaper-token";
const dialog = document.getElementById("ask");
const forget = document.getElementById("forget");

export class Refused extends Error {
  constructor(status, told) {
    super(told?.detail ?? `the daemon answered ${status}`);
    this.status = status;
    this.told = told;
  }
}

export class Cancelled extends Error {}

export async function read(path) {
  return told(await fetch(path, { cache: "no-store" }));
}

// While `wanted()`: whoever has closed the dialog is not asked for another token on its behalf.
export async function change(wanted, path, body) {
  for (let wrong = ""; ; ) {
    const token = await bear(wrong);
    const headers = { Authorization: `Bearer ${token}` };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch(path, { method: "POST", headers, body: body && JSON.stringify(body), cache: "no-store" });
    if (answer.status !== 401) return told(answer);
    if (sessionStorage.getItem(KEPT) === token) letGo();
    if (!wanted()) throw new Cancelled();
    wrong = "This is not one of its tokens.";
  }
}

export async function bear(wrong = "") {
  return sessionStorage.getItem(KEPT) ?? (await ask(wrong));
}

async function told(answer) {
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

function letGo() {
  sessionStorage.removeItem(KEPT);
  forget.hidden = true;
}

export function offerForgetting() {
  forget.hidden = sessionStorage.getItem(KEPT) === null;
  forget.addEventListener("click", () => {
    letGo();
    document.getElementById("pause").focus();
  });
}
