"use strict";
// Everything here adds comfort: without it the pages show the same, tables unsorted.

// A column's header sorts its table: numbers by value, texts as a reader would, what is missing last.
const value = (cell) => {
  const text = (cell.dataset.value ?? cell.textContent).trim().replace(/[\u202f\u00a0 ]/g, " ").replace(/^\u2212/, "-");
  const number = text.replace(/ (?=\d{3}\b)/g, "").replace(/ ?%$/, "");
  return { text, number: number === "" || number === "–" ? NaN : Number(number) };
};
const words = new Intl.Collator("en", { numeric: true });
const sort = (table, column, header) => {
  const down = header.getAttribute("aria-sort") === "ascending";
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, ...value(row.cells[column]) }));
  const there = ({ text }) => text !== "" && text !== "–";
  const numeric = rows.filter(there).every(({ number }) => !Number.isNaN(number));
  const order = (a, b) => {
    if (there(a) !== there(b)) return there(a) ? -1 : 1;
    return (down ? -1 : 1) * (numeric ? (a.number || 0) - (b.number || 0) : words.compare(a.text, b.text));
  };
  table.tBodies[0].append(...rows.sort(order).map(({ row }) => row));
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
};
for (const table of document.querySelectorAll("table.sortable")) {
  for (const [column, header] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sort(table, column, header));
  }
}

// A line over a spectrogram shows where its sound is; a click there moves it. One sound plays at a time.
const sounds = [...document.querySelectorAll(".sound audio")];
for (const audio of sounds) {
  const look = audio.previousElementSibling;
  const at = () => look.style.setProperty("--at", audio.duration ? audio.currentTime / audio.duration : 0);
  const follow = () => { at(); if (!audio.paused) requestAnimationFrame(follow); };
  audio.addEventListener("play", () => {
    look.classList.add("begun");
    sounds.filter((other) => other !== audio).forEach((other) => other.pause());
    follow();
  });
  audio.addEventListener("seeked", at);
  look.addEventListener("click", (event) => {
    const box = look.getBoundingClientRect();
    if (audio.duration) audio.currentTime = (audio.duration * (event.clientX - box.left)) / box.width;
    audio.play();
  });
}

// All code at once.
const folds = [...document.querySelectorAll("details.code")];
const all = document.querySelector("button.all-code");
if (all && folds.length) {
  all.hidden = false;
  all.addEventListener("click", () => {
    const open = all.getAttribute("aria-pressed") !== "true";
    all.setAttribute("aria-pressed", open);
    folds.forEach((fold) => { fold.open = open; });
  });
}

// The contents mark the section that is being read.
const links = new Map([...document.querySelectorAll(".contents.wide a[href^='#']")].map((a) => [a.hash.slice(1), a]));
if (links.size) {
  const headings = [...links.keys()].map((id) => document.getElementById(id));
  const mark = () => {
    const read = headings.filter((heading) => heading.getBoundingClientRect().top < innerHeight / 3).pop();
    for (const [id, link] of links) {
      if (read && id === read.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
}
