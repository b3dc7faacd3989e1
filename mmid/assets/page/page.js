"use strict";
// Sorts and filters the table, and opens the sections; roll.js moves the playheads. Without it all is open.

document.documentElement.classList.add("scripted");

/** The row's value in a column, as it is sorted: a number, a text, or null where there is none. */
function valueOf(recording, column, isNumber) {
  const value = recording.rows[0].cells[column]?.dataset.value ?? "";
  if (value === "") return null;
  return isNumber ? Number(value) : value;
}

const collator = new Intl.Collator("en", { numeric: true });

/** Order two values; those that are missing come last whichever way the others go. */
function compare(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  return direction * (typeof a === "number" ? a - b : collator.compare(a, b));
}

function sortBy(table, recordings, heading) {
  const isNumber = heading.classList.contains("number");
  const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of heading.parentNode.cells) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  const keyed = recordings.map((recording) => [
    valueOf(recording, heading.cellIndex, isNumber),
    recording,
  ]);
  keyed.sort(([a], [b]) => compare(a, b, direction));
  table.append(...keyed.map(([, recording]) => recording));
}

function filter(recordings, text, shown) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const recording of recordings) {
    const row = recording.rows[0].textContent.toLowerCase();
    recording.hidden = !words.every((word) => row.includes(word));
    count += !recording.hidden;
  }
  shown.textContent = words.length ? `${count} of ${recordings.length}` : "";
}

function toggle(recording) {
  const button = recording.querySelector("button[aria-expanded]");
  if (!button) return;
  const open = recording.classList.toggle("open");
  button.setAttribute("aria-expanded", String(open));
  const audio = recording.querySelector("audio");
  if (audio && open) audio.preload = "metadata";
  if (audio && !open) audio.pause();
  if (open) prepareRoll(recording);
}

const rolls = new WeakMap();

function prepareRoll(recording) {
  const figure = recording.querySelector(".roll");
  if (!figure || rolls.has(figure)) return;
  const audio = recording.querySelector("audio");
  rolls.set(figure, new Roll(figure, audio, recording.querySelector(".now")));
}

document.addEventListener("DOMContentLoaded", () => {
  const table = document.getElementById("answers");
  const recordings = [...table.tBodies];
  const box = document.getElementById("filter");
  const shown = document.getElementById("shown");
  box.addEventListener("input", () => filter(recordings, box.value, shown));
  table.addEventListener("click", (event) => {
    const heading = event.target.closest("th[aria-sort]");
    const row = event.target.closest(".row");
    if (heading && event.target.closest("button")) sortBy(table, recordings, heading);
    else if (row && getSelection().isCollapsed) toggle(row.parentNode);
  });
  // One thing is played at a time.
  table.addEventListener(
    "play",
    ({ target }) => {
      for (const audio of table.querySelectorAll("audio")) if (audio !== target) audio.pause();
    },
    true,
  );
  if (recordings.length === 1) toggle(recordings[0]);
});
