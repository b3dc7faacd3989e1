// Plays a recording, and its score in step with it on a small synthesiser of oscillators.
/* global Roll */

const AHEAD = 0.3; // seconds of notes that are given to the synthesiser in advance
const EVERY = 100; // milliseconds between two looks at what sounds next
const LOUDEST = 0.16; // of a single note
const PEAKS = 500; // of a waveform, each side
const MOST_DRAWN = 900; // seconds of a recording whose waveform is drawn: decoded, a second takes 350 kB

let context = null; // one for all players, begun when something is first played

/** The notes of a score, played by oscillators: a triangle each, that decays as a string does. */
class Synthesiser {
  constructor(notes) {
    this.notes = notes;
    this.sounding = new Set();
    this.next = 0;
    this.level = 0.5;
  }

  /** Begin, or go on, from a second of the recording. */
  start(seconds) {
    context ??= new AudioContext();
    context.resume();
    this.stop();
    this.output = context.createGain();
    this.output.gain.value = this.level;
    this.output.connect(context.destination);
    this.next = this.notes.findIndex(([, end]) => end > seconds);
    if (this.next < 0) this.next = this.notes.length;
  }

  /** Have what sounds soon sound in time; `rate` is how fast the recording goes. */
  play(seconds, rate) {
    while (this.next < this.notes.length && this.notes[this.next][0] < seconds + AHEAD * rate) {
      const [begin, end, pitch, velocity] = this.notes[this.next++];
      const from = context.currentTime + Math.max(0, begin - seconds) / rate;
      const length = (end - Math.max(begin, seconds)) / rate;
      if (length > 0) this.strike(from, Math.max(length, 0.05), pitch, velocity);
    }
  }

  strike(from, length, pitch, velocity) {
    const tone = context.createOscillator();
    const loudness = context.createGain();
    tone.type = "triangle";
    tone.frequency.value = 440 * 2 ** ((pitch - 69) / 12);
    loudness.gain.setValueAtTime(0, from);
    loudness.gain.linearRampToValueAtTime((LOUDEST * velocity) / 127, from + 0.01);
    loudness.gain.setTargetAtTime((LOUDEST * velocity) / 500, from + 0.01, 0.4);
    loudness.gain.setTargetAtTime(0, from + length, 0.03);
    tone.connect(loudness).connect(this.output);
    tone.start(from);
    tone.stop(from + length + 0.2);
    this.sounding.add(tone);
    tone.addEventListener("ended", () => this.sounding.delete(tone));
  }

  stop() {
    for (const tone of this.sounding) tone.stop();
    this.sounding.clear();
    this.output?.disconnect();
  }

  set loudness(level) {
    this.level = level;
    if (this.output) this.output.gain.value = level;
  }
}

const playing = new Set();

/** A recording with its waveform, and the score in step. */
export class Player {
  /**
   * `notes` are of the recording's time; `playable()` makes a sound that any browser plays; `share` of the
   * score is heard until the slider is moved.
   */
  constructor(file, notes, playable, share = 0.5) {
    this.root = document.getElementById("player").content.cloneNode(true).firstElementChild;
    this.audio = this.root.querySelector("audio");
    this.wave = this.root.querySelector(".wave");
    this.now = this.root.querySelector(".now");
    this.file = file;
    this.playable = playable;
    this.audio.src = URL.createObjectURL(file);
    this.audio.addEventListener("error", () => this.useOther(), { once: true });
    this.audio.addEventListener("loadedmetadata", () => this.draw());
    this.synthesiser = notes.length ? new Synthesiser(notes) : null;
    this.mix(this.root.querySelector(".mix"), share);
    this.follow();
  }

  /** Have a roll's playhead follow, if there is one. */
  attach(figure) {
    if (figure) new Roll(figure, this.audio, this.now);
  }

  async useOther() {
    try {
      const sound = await this.playable();
      this.file = sound;
      this.audio.src = URL.createObjectURL(sound);
    } catch (error) {
      this.now.textContent = `This browser cannot play it. ${error.message}`;
    }
  }

  mix(label, share) {
    label.hidden = !this.synthesiser;
    const slider = label.querySelector("input");
    slider.value = share;
    const set = () => {
      const share = Number(slider.value);
      this.audio.volume = Math.min(1, 2 * (1 - share));
      if (this.synthesiser) this.synthesiser.loudness = Math.min(1, 2 * share);
    };
    slider.addEventListener("input", set);
    if (this.synthesiser) set();
  }

  follow() {
    const { audio, synthesiser } = this;
    let timer = 0;
    const look = () => synthesiser?.play(audio.currentTime, audio.playbackRate);
    const move = () => {
      const place = audio.duration ? (1000 * audio.currentTime) / audio.duration : 0;
      const line = this.wave.querySelector(".playhead");
      line.setAttribute("x1", place);
      line.setAttribute("x2", place);
      if (!audio.paused) requestAnimationFrame(move);
    };
    const stop = () => {
      clearInterval(timer);
      synthesiser?.stop();
      playing.delete(this);
    };
    audio.addEventListener("playing", () => {
      stop();
      for (const other of playing) other.audio.pause();
      playing.add(this);
      synthesiser?.start(audio.currentTime);
      look();
      timer = setInterval(look, EVERY);
      move();
    });
    for (const name of ["pause", "ended", "waiting", "seeking", "emptied"]) audio.addEventListener(name, stop);
    audio.addEventListener("seeked", move);
    this.wave.addEventListener("click", ({ clientX }) => {
      const box = this.wave.getBoundingClientRect();
      if (audio.duration) audio.currentTime = ((clientX - box.left) / box.width) * audio.duration;
    });
  }

  /** Draw the waveform, if the browser can decode the recording, and in little memory. */
  async draw() {
    if (this.audio.duration > MOST_DRAWN) return;
    try {
      const decoder = new OfflineAudioContext(1, 1, 8000);
      const sound = await decoder.decodeAudioData(await this.file.arrayBuffer());
      this.wave.querySelector(".sound").setAttribute("d", outline(sound.getChannelData(0)));
      this.wave.removeAttribute("hidden");
    } catch {
      this.wave.setAttribute("hidden", "");
    }
  }

  close() {
    this.audio.pause();
    URL.revokeObjectURL(this.audio.src);
  }
}

/** The outline of samples as an SVG path, a thousand wide and a hundred high. */
function outline(samples) {
  const tops = [];
  const step = samples.length / PEAKS;
  for (let i = 0; i < PEAKS; i++) {
    let top = 0;
    for (let at = Math.floor(i * step); at < (i + 1) * step; at++) top = Math.max(top, Math.abs(samples[at] || 0));
    tops.push(top);
  }
  const loudest = Math.max(...tops, 1e-4);
  const points = tops.map((top, i) => [(1000 * i) / (PEAKS - 1), Math.max(0.6, (48 * top) / loudest)]);
  const above = points.map(([x, y]) => `${x.toFixed(1)} ${(50 - y).toFixed(1)}`);
  const below = points.reverse().map(([x, y]) => `${x.toFixed(1)} ${(50 + y).toFixed(1)}`);
  return `M${[...above, ...below].join("L")}Z`;
}


