// Brings the page to life: what is dropped, chosen or listened to is identified.
import { identifyAll } from "./answers.js";
import { list, showWork } from "./library.js";
import { listen } from "./microphone.js";
import { ask, watch } from "./server.js";

const at = (id) => document.getElementById(id);
document.documentElement.classList.add("scripted");

/** Show one part of the page. */
function turnTo(name) {
  for (const part of ["identify", "library"]) {
    at(part).hidden = part !== name;
    if (part === name) at(`to-${part}`).setAttribute("aria-current", "page");
    else at(`to-${part}`).removeAttribute("aria-current");
  }
  if (name === "library") list();
}

for (const part of ["identify", "library"]) at(`to-${part}`).addEventListener("click", () => turnTo(part));

// ---- what is chosen or dropped

const MUSIC = /\.(wav|flac|ogg|oga|opus|mp3|m4a|aac|wma|aiff?|mp4|mkv|webm|midi?|kar|rmi)$/i;

at("choose").addEventListener("click", () => at("files").click());
at("choose-folder").addEventListener("click", () => at("folder").click());
at("files").addEventListener("change", () => {
  identifyAll([...at("files").files]);
  at("files").value = "";
});
at("folder").addEventListener("change", () => {
  identifyAll([...at("folder").files].filter((file) => MUSIC.test(file.name)));
  at("folder").value = "";
});

/** The files of what was dropped: themselves, or those of music below a folder. */
async function filesOf(entry, whole = true) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return whole || MUSIC.test(file.name) ? [file] : [];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const one of some) found.push(...(await filesOf(one, false)));
  }
}

const drop = at("drop");
for (const name of ["dragover", "dragenter"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
addEventListener("dragleave", (event) => event.relatedTarget ?? drop.classList.remove("over"));
addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const plain = [...event.dataTransfer.files];
  turnTo("identify");
  const found = entries.length ? (await Promise.all(entries.map((entry) => filesOf(entry)))).flat() : plain;
  identifyAll(found);
});

// ---- the microphone

let listening = null;
at("listen").addEventListener("click", async () => {
  if (listening) return listening.stop();
  const button = at("listen");
  listening = { stopped: false, stop: () => (listening.stopped = true) };
  button.setAttribute("aria-pressed", "true");
  button.textContent = "Stop listening";
  await listen(listening);
  listening = null;
  button.setAttribute("aria-pressed", "false");
  button.textContent = "Listen";
});

// ---- what goes on in the server

let before = null;
watch((state, refused) => {
  const status = at("status");
  status.classList.toggle("lost", !state);
  if (!state) {
    status.textContent = refused
      ? "This page needs the token: open the whole address that mmid serve printed."
      : "mmid does not answer: start mmid serve again, and this page goes on.";
    return;
  }
  showWork(state.work);
  status.textContent = said(state);
  const outcome = JSON.stringify(state.last);
  if (before !== null && before !== outcome && !at("library").hidden) list();
  before = outcome;
});

function said({ running, waiting, work }) {
  const parts = [];
  if (running) parts.push(`${running} being identified`);
  if (waiting) parts.push(`${waiting} waiting`);
  if (work) parts.push(work.total ? `${work.what}: ${work.done} of ${work.total}` : work.what);
  return parts.join(", ");
}

ask("/library?limit=0")
  .then(({ items }) => items || turnTo("library"))
  .catch(() => {});
