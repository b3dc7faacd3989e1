// The library: what is indexed, searched, added, removed; what was left out, and why.
/* global clock */
import { address, ask } from "./server.js";

const PAGE = 50;
const at = (id) => document.getElementById(id);

let offset = 0;
let shown = 0; // number of the newest listing asked for: an older one that comes later is dropped

function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

function bdi(text) {
  const made = document.createElement("bdi");
  made.textContent = text;
  return made;
}

function removeButton(name) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "remove";
  made.textContent = "Remove";
  made.setAttribute("aria-label", `Remove ${name}`);
  made.addEventListener("click", () => {
    if (confirm(`Remove ${name} from the library? The files stay.`)) change("/library/remove", { names: [name] });
  });
  return made;
}

/** Change the library, and say how that ended. */
async function change(path, json) {
  say("");
  try {
    const done = await ask(path, { method: "POST", json });
    say(summary(done));
  } catch (error) {
    say(error.message, true);
  }
  list();
}

function summary(done) {
  if (done.removed) return `${plural(done.removed.length, "piece")} removed.`;
  const counts = ["added", "changed", "moved", "gone", "kept"].filter((name) => done[name]);
  const said = counts.map((name) => `${done[name]} ${name}`).join(", ") || "nothing new";
  const left = done.left_out ? `; ${plural(done.left_out, "file")} left out` : "";
  const skipped = done.skipped.length ? ` Skipped: ${done.skipped.join("; ")}.` : "";
  return `Done: ${said}${left}.${skipped}`;
}

function say(text, failed = false) {
  at("outcome").textContent = text;
  at("outcome").classList.toggle("failed", failed);
}

function pieceRow(piece) {
  const row = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  name.append(bdi(piece.name));
  const also = [...(piece.title ? [piece.title] : []), ...piece.copies.map((copy) => `= ${copy}`)];
  for (const text of also) {
    const line = document.createElement("span");
    line.className = "also";
    line.append(bdi(text));
    name.append(document.createElement("br"), line);
  }
  const length = document.createElement("td");
  length.className = "number";
  length.textContent = clock(piece.seconds);
  const remove = document.createElement("td");
  remove.className = "number";
  remove.append(removeButton(piece.name));
  row.append(name, length, remove);
  return row;
}

/** Show the library, or that part of it that is searched for. */
export async function list() {
  const number = ++shown;
  let library;
  try {
    library = await ask(address("/library", { search: at("search").value, offset, limit: PAGE }));
  } catch (error) {
    say(error.message, true);
    return;
  }
  if (number !== shown) return;
  const what = library.kind === "recordings" ? "recording" : "piece";
  at("holdings").textContent = library.items
    ? `${plural(library.items, what)}, ${library.hours.toFixed(1)} hours of music. Recordings may be dropped anywhere on this page.`
    : "Nothing is indexed yet: add a folder of MIDI files below.";
  at("holding").hidden = !library.items;
  at("pieces").tBodies[0].replaceChildren(...library.pieces.map(pieceRow));
  at("count").textContent = at("search").value ? `${plural(library.found, what)} found` : "";
  at("pages").hidden = library.found <= PAGE;
  at("before").disabled = offset === 0;
  at("after").disabled = offset + PAGE >= library.found;
  at("followed").hidden = !library.folders.length;
  at("folders").replaceChildren(...library.folders.map(folderLine));
  showLeftOut(library.left_out);
}

function folderLine(folder) {
  const line = document.createElement("li");
  line.append(bdi(folder), removeButton(folder));
  return line;
}

function showLeftOut(count) {
  const part = at("left-out");
  part.hidden = !count;
  part.querySelector("summary").textContent = `${plural(count, "file")} left out, and why`;
  if (part.open) listLeftOut();
}

async function listLeftOut() {
  const { files, found } = await ask(address("/library/left-out", { limit: 500 }));
  const lines = files.map(({ name, reason }) => {
    const line = document.createElement("li");
    line.append(bdi(name), `: ${reason}`);
    return line;
  });
  const more = document.createElement("li");
  more.textContent = `and ${found - files.length} more: mmid index list --left-out`;
  at("left-out").querySelector("ul").replaceChildren(...lines, ...(found > files.length ? [more] : []));
}

/** Show a change that is under way, whoever began it. */
export function showWork(work) {
  at("work").hidden = !work;
  for (const id of ["rebuild"]) at(id).disabled = Boolean(work);
  at("add").querySelector("button").disabled = Boolean(work);
  if (!work) return;
  const far = work.total ? `: ${work.stage.toLowerCase()} ${work.done} of ${work.total}` : "";
  at("work-line").textContent = `${work.what}${far}`;
  const bar = at("work-bar");
  if (work.total) {
    bar.max = work.total;
    bar.value = work.done;
  } else bar.removeAttribute("value");
}

let typing = 0;
at("search").addEventListener("input", () => {
  clearTimeout(typing);
  offset = 0;
  typing = setTimeout(list, 150);
});
at("before").addEventListener("click", () => {
  offset = Math.max(0, offset - PAGE);
  list();
});
at("after").addEventListener("click", () => {
  offset += PAGE;
  list();
});
at("add").addEventListener("submit", (event) => {
  event.preventDefault();
  change("/build", { folder: at("path").value });
});
at("rebuild").addEventListener("click", () => change("/build", {}));
at("cancel-work").addEventListener("click", () => ask("/build", { method: "DELETE" }).catch(() => {}));
at("left-out").addEventListener("toggle", () => at("left-out").open && listLeftOut());
