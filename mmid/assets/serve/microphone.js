// Listens: the newest seconds are sent again and again, until two answers agree.
import { address, upload } from "./server.js";
import { Card, settings } from "./answers.js";

const LEAST = 3; // seconds before the first guess
const STEP = 1; // seconds of new sound that a guess is worth making for
const SPAN = 30; // the newest so many seconds are sent
const MOST = 60; // seconds to listen
const CONFIDENT = 0.9; // confidence from which a guess ends it, once two name the same piece

/** Mono samples as a 16-bit WAV file. */
function wav(samples, rate) {
  const bytes = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, word) => [...word].forEach((c, i) => bytes.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  bytes.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true);
  bytes.setUint16(20, 1, true);
  bytes.setUint16(22, 1, true);
  bytes.setUint32(24, rate, true);
  bytes.setUint32(28, 2 * rate, true);
  bytes.setUint16(32, 2, true);
  bytes.setUint16(34, 16, true);
  text(36, "data");
  bytes.setUint32(40, 2 * samples.length, true);
  samples.forEach((s, i) => bytes.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, s)) * 32767, true));
  return new File([bytes], "microphone.wav", { type: "audio/wav" });
}

/** What the microphone gave, the newest seconds of it. */
class Tape {
  constructor(rate) {
    this.rate = rate;
    this.blocks = [];
    this.kept = this.taken = 0; // samples
  }

  add(block) {
    this.blocks.push(block);
    this.kept += block.length;
    this.taken += block.length;
    while (this.kept - this.blocks[0].length >= SPAN * this.rate) this.kept -= this.blocks.shift().length;
  }

  get seconds() {
    return this.taken / this.rate;
  }

  newest() {
    const samples = new Float32Array(this.kept);
    let at = 0;
    for (const block of this.blocks) {
      samples.set(block, at);
      at += block.length;
    }
    return samples;
  }
}

async function open(tape) {
  const sound = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: sound });
  const context = new AudioContext();
  await context.audioWorklet.addModule("/assets/recorder.js");
  const recorder = new AudioWorkletNode(context, "recorder");
  const made = tape(context.sampleRate);
  recorder.port.onmessage = ({ data }) => made.add(data);
  context.createMediaStreamSource(stream).connect(recorder);
  const close = () => {
    for (const track of stream.getTracks()) track.stop();
    return context.close();
  };
  return [made, close];
}

function whyNot(error) {
  if (!navigator.mediaDevices) return "Open this page on the machine itself: browsers allow no microphone from afar.";
  if (error.name === "NotAllowedError") return "This page may not use the microphone; allow it in the browser.";
  if (error.name === "NotFoundError") return "No microphone is connected.";
  return error.message;
}

/** Listen until it is known what is played, or `signal` says stop. */
export async function listen(signal) {
  const card = new Card("microphone");
  card.stopping.signal.addEventListener("abort", () => signal.stop());
  try {
    const [tape, close] = await open((rate) => new Tape(rate));
    try {
      await guess(card, tape, signal);
    } finally {
      await close();
    }
    if (card.stopping.signal.aborted) return;
    const file = wav(tape.newest(), tape.rate);
    card.wait("Is being identified");
    const given = { name: "microphone.wav", transpose: settings().transpose, shown: "1" };
    card.answer(await upload(address("/identify", given), file, { signal: card.stopping.signal }), file);
  } catch (error) {
    if (!card.stopping.signal.aborted) card.fail(whyNot(error));
  }
}

/** Send the newest seconds again and again, and show what they seem to be. */
async function guess(card, tape, signal) {
  let leader = null;
  let sent = 0;
  card.wait("Listening");
  while (!signal.stopped && tape.seconds < MOST) {
    await new Promise((wake) => setTimeout(wake, 100));
    if (tape.seconds < LEAST || tape.seconds - sent < STEP) continue;
    sent = tape.seconds;
    const given = { name: "microphone.wav", transpose: settings().transpose };
    const answer = await upload(address("/identify", given), wav(tape.newest(), tape.rate), {
      signal: card.stopping.signal,
    });
    const best = answer.matches[0];
    const confident = best && best.confidence >= CONFIDENT ? best.piece : null;
    card.wait(`${Math.round(tape.seconds)} s: ${described(best)}`);
    if (confident && confident === leader) return;
    leader = confident;
  }
}

function described(best) {
  if (!best || best.confidence < 0.005) return "nothing yet";
  return `${best.title || best.piece}, ${Math.round(100 * best.confidence)} % confident`;
}
