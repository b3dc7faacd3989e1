"use strict";
// The piano roll of a passage found: its playhead follows the sound, a click plays from there.

/** Where a time falls between two lists of matching times. */
function interpolate(time, from, to) {
  let low = 0;
  let high = from.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (from[middle] <= time) low = middle;
    else high = middle;
  }
  const share = high > low ? (time - from[low]) / (from[high] - from[low]) : 0;
  return to[low] + Math.min(Math.max(share, 0), 1) * (to[high] - to[low]);
}

function nearest(time, times) {
  let best = 0;
  for (let i = 1; i < times.length; i++) {
    if (Math.abs(times[i] - time) < Math.abs(times[best] - time)) best = i;
  }
  return best;
}

function clock(seconds) {
  const tenths = Math.max(0, Math.floor(seconds * 10));
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return `${Math.floor(tenths / 600)}:${rest}`;
}

const UNITS = 100; // of a roll's drawing in a second
const SECONDS_IN_SIGHT = 20; // of a passage, before anyone zooms

class Roll {
  constructor(figure, audio, now) {
    this.audio = audio;
    this.now = now;
    this.start = Number(figure.dataset.start);
    this.path = JSON.parse(figure.querySelector(".path").textContent);
    this.scroll = figure.querySelector(".scroll");
    this.music = figure.querySelector(".music");
    this.playhead = figure.querySelector(".playhead");
    this.width = figure.querySelector(".music > svg").viewBox.baseVal.width;
    const zoom = figure.querySelector(".zoom");
    zoom.value = this.width / UNITS / SECONDS_IN_SIGHT;
    zoom.addEventListener("input", () => this.zoom(zoom.value));
    this.zoom(zoom.value);
    if (audio) this.follow();
  }

  zoom(times) {
    this.music.style.width = `${100 * times}%`;
    this.show();
  }

  follow() {
    const step = () => {
      this.move();
      if (!this.audio.paused) requestAnimationFrame(step);
    };
    this.audio.addEventListener("play", step);
    this.audio.addEventListener("seeked", () => this.move());
    this.music.addEventListener("click", (event) => this.seek(event.clientX));
    this.move();
  }

  /** Put the playhead where the sound is. */
  move() {
    const played = this.audio.currentTime;
    const time = interpolate(played, this.path.query, this.path.piece);
    const place = (time - this.start) * UNITS;
    this.playhead.setAttribute("x1", place);
    this.playhead.setAttribute("x2", place);
    this.now.textContent = `${clock(played)} in the recording is ${clock(time)} in the piece`;
    this.show();
  }

  /** Scroll so that the playhead is in sight. */
  show() {
    const size = this.music.getBoundingClientRect().width;
    const place = (this.playhead.x1.baseVal.value / this.width) * size;
    const { scrollLeft, clientWidth } = this.scroll;
    if (place < scrollLeft || place > scrollLeft + 0.9 * clientWidth) {
      this.scroll.scrollLeft = place - 0.1 * clientWidth;
    }
  }

  /** Play from a place of the drawing. */
  seek(clientX) {
    const box = this.music.getBoundingClientRect();
    const time = this.start + ((clientX - box.left) / box.width) * (this.width / UNITS);
    this.audio.currentTime = this.path.query[nearest(time, this.path.piece)];
  }
}
