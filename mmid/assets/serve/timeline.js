// What was played in a long recording from when to when: a strip, and a table.
/* global clock */

function jump(audio, seconds) {
  audio.currentTime = seconds;
  audio.play();
}

function button(text, label, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

/** The pieces as a strip as long as the recording. */
function strip(timeline, audio) {
  const made = document.createElement("div");
  made.className = "strip";
  made.setAttribute("role", "group");
  made.setAttribute("aria-label", "Timeline");
  for (const { start, end, match } of timeline.played) {
    const span = `${clock(start)} to ${clock(end)}`;
    const one = button("", `${nameOf(match)}, ${span}`, () => jump(audio, start));
    const name = document.createElement("span");
    name.textContent = nameOf(match);
    one.append(name);
    one.title = `${nameOf(match)}, ${span}`;
    one.style.left = `${(100 * start) / timeline.seconds}%`;
    one.style.width = `${(100 * (end - start)) / timeline.seconds}%`;
    made.append(one);
  }
  const reached = document.createElement("span");
  reached.className = "reached";
  audio.addEventListener("timeupdate", () => {
    reached.style.left = `${(100 * audio.currentTime) / timeline.seconds}%`;
  });
  made.append(reached);
  return made;
}

function nameOf(match) {
  return match.title || match.piece;
}

function row(cells, from) {
  const made = document.createElement(from);
  for (const cell of cells) {
    const box = document.createElement(cell.heading ? "th" : "td");
    if (cell.heading) box.scope = cell.heading;
    if (cell.number) box.className = "number";
    box.append(cell.content);
    made.append(box);
  }
  return made;
}

function table(timeline, audio) {
  const made = document.createElement("table");
  made.className = "matches pieces";
  const heading = (text, number) => ({ content: text, heading: "col", number });
  made.createTHead().append(
    row([heading("from", true), heading("to", true), heading("piece"), heading("confidence", true)], "tr"),
  );
  const body = made.createTBody();
  for (const { start, end, match } of timeline.played) {
    body.append(
      row(
        [
          { content: clock(start), number: true },
          { content: clock(end), number: true },
          { content: button(nameOf(match), "", () => jump(audio, start)), heading: "row" },
          { content: `${Math.round(100 * match.confidence)}%`, number: true },
        ],
        "tr",
      ),
    );
  }
  return made;
}

/** Show a timeline; a piece that is chosen is played. */
export function showTimeline(timeline, audio) {
  if (!timeline.played.length) return [];
  const wide = document.createElement("div");
  wide.className = "wide";
  wide.tabIndex = 0;
  wide.setAttribute("role", "group");
  wide.setAttribute("aria-label", "Pieces played, scrolls sideways");
  wide.append(table(timeline, audio));
  return [strip(timeline, audio), wide];
}

/** A timeline as a sentence. */
export function timelineSentence(timeline) {
  const count = timeline.played.length;
  if (!count) return `Nothing of your library is played in these ${clock(timeline.seconds)}.`;
  return `${count} ${count === 1 ? "piece" : "pieces"} in ${clock(timeline.seconds)}.`;
}
