// The recordings, a card each: sent, waited for, answered, played.
import { address, limits, upload } from "./server.js";
import { Player } from "./player.js";
import { showTimeline, timelineSentence } from "./timeline.js";

const AT_ONCE = 2; // recordings sent at a time
const LONG = 240; // seconds from which a recording may hold several pieces

const VERDICTS = { found: "found", perhaps: "perhaps", absent: "not in your library" };

const cards = document.getElementById("cards");
let queue = [];
let sending = 0;

/** A card of a recording. */
export class Card {
  constructor(name) {
    this.root = document.getElementById("card").content.cloneNode(true).firstElementChild;
    this.part = (selector) => this.root.querySelector(selector);
    this.part(".name").textContent = name;
    this.name = name;
    this.stopping = new AbortController();
    this.part(".cancel").addEventListener("click", () => this.cancel());
    cards.prepend(this.root);
    this.wait("Waits to be sent");
  }

  cancel() {
    this.stopping.abort();
    if (!this.root.classList.contains("busy")) this.close();
    else this.fail("Cancelled.");
  }

  /** Say what goes on, and how much of it is done, if that is known. */
  wait(text, share) {
    this.root.classList.add("busy");
    this.part(".said").textContent = text;
    const bar = this.part(".bar-of-work");
    bar.hidden = false;
    bar.setAttribute("aria-label", text);
    if (share === undefined) bar.removeAttribute("value");
    else bar.value = share;
  }

  settle(text) {
    this.root.classList.remove("busy");
    this.part(".bar-of-work").hidden = true;
    this.part(".said").textContent = text;
    this.part(".cancel").textContent = "Close";
    this.part(".cancel").setAttribute("aria-label", `Close ${this.name}`);
  }

  fail(text) {
    this.root.classList.add("failed");
    this.settle(text);
  }

  mark(kind, text) {
    const pill = this.part(".verdict");
    pill.className = `verdict ${kind}`;
    pill.textContent = text;
  }

  /** Show an answer; with what speaks for it, if it was asked for. */
  answer(answer, file) {
    this.settle(answer.sentence);
    this.mark(answer.verdict, VERDICTS[answer.verdict]);
    if (answer.shown) this.show(answer, file);
  }

  show(answer, file) {
    const { html, notes, midi, csv, ...rest } = { ...answer.shown };
    const parts = document.createElement("template");
    parts.innerHTML = html; // escaped by the server; this page runs no script but its own
    this.player = /\.(midi?|kar|rmi)$/i.test(file.name ?? "") ? null : this.play(file, notes, answer.verdict === "absent" ? 0 : 0.5);
    this.part(".rest").replaceChildren(...(this.player ? [this.player.root] : []), parts.content);
    this.player?.attach(this.part(".roll"));
    const plain = { ...answer, ...rest };
    delete plain.shown;
    this.part(".rest").append(this.downloads(plain, csv, midi));
  }

  play(file, notes, share) {
    const sound = () =>
      upload(address("/sound", { name: this.name }), file, { type: "blob", signal: this.stopping.signal });
    return new Player(file, notes, sound, share);
  }

  timeline(timeline, file) {
    const { csv, ...plain } = timeline;
    this.settle(timelineSentence(timeline));
    this.mark(timeline.played.length ? "found" : "absent", timeline.played.length ? "found" : "nothing found");
    this.player = this.play(file, []);
    this.part(".rest").replaceChildren(this.player.root, ...showTimeline(timeline, this.player.audio));
    this.part(".rest").append(this.downloads(plain, csv, null));
  }

  downloads(json, csv, midi) {
    const row = document.getElementById("downloads").content.cloneNode(true).firstElementChild;
    const offer = (kind, content, type, ending) => {
      const link = row.querySelector(`.${kind}`);
      link.href = URL.createObjectURL(new Blob([content], { type }));
      link.download = `${this.name.split("/").pop()}${ending}`;
      link.hidden = false;
    };
    offer("json", JSON.stringify(json, null, 1), "application/json", ".mmid.json");
    offer("csv", csv, "text/csv", ".csv");
    if (midi) offer("midi", Uint8Array.from(atob(midi), (c) => c.charCodeAt(0)), "audio/midi", ".aligned.mid");
    return row;
  }

  close() {
    this.player?.close();
    for (const link of this.root.querySelectorAll(".downloads a[href]")) URL.revokeObjectURL(link.href);
    this.root.remove();
  }
}

/** How long a recording lasts, as far as the browser knows. */
function lengthOf(file) {
  return new Promise((resolve) => {
    const audio = new Audio();
    const done = () => {
      URL.revokeObjectURL(audio.src);
      resolve(Number.isFinite(audio.duration) ? audio.duration : 0);
    };
    audio.preload = "metadata";
    audio.addEventListener("loadedmetadata", done);
    audio.addEventListener("error", done);
    audio.src = URL.createObjectURL(file);
  });
}

export function settings() {
  return {
    transpose: document.getElementById("own-key").checked ? "0" : "auto",
    holds: document.getElementById("holds").value,
  };
}

/** Identify recordings, in their order, a card each. */
export function identifyAll(files) {
  const added = files.map((file) => [new Card(file.webkitRelativePath || file.name), file, settings()]);
  queue.push(...added);
  sendNext();
}

function sendNext() {
  while (sending < AT_ONCE && queue.length) {
    const [card, file, chosen] = queue.shift();
    if (card.stopping.signal.aborted) continue;
    sending++;
    identify(card, file, chosen).finally(() => {
      sending--;
      sendNext();
    });
  }
}

async function identify(card, file, chosen) {
  if (file.size > limits.bytes) {
    card.fail(`It is larger than ${Math.round(limits.bytes / 1e6)} MB; send a part of it.`);
    return;
  }
  const several =
    chosen.holds === "several" || (chosen.holds === "auto" && (await lengthOf(file)) > LONG);
  const signal = card.stopping.signal;
  const sent = (share) =>
    card.wait(share < 1 ? "Is being sent" : "Is being identified", share < 1 ? share : undefined);
  try {
    if (several) await follow(card, file, sent, signal);
    else {
      const given = { name: card.name, transpose: chosen.transpose, shown: "1" };
      card.answer(await upload(address("/identify", given), file, { signal, sent }), file);
    }
  } catch (error) {
    if (!signal.aborted) card.fail(error.message);
  }
}

async function follow(card, file, sent, signal) {
  let last = null;
  const received = (name, value) => {
    if (name === "progress" && value.total) {
      card.wait("Is being followed", value.done / value.total);
    } else if (name !== "progress") last = [name, value];
  };
  await upload(address("/timeline", { name: card.name }), file, { signal, sent, received });
  if (last?.[0] === "timeline") card.timeline(last[1], file);
  else throw new Error(last?.[1].error ?? "mmid broke off; send it again");
}
