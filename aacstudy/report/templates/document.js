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

// The explorer: a loss matrix ranked here, by text or by clip, with any of four scores.
const TOP = 10;
const METHODS = { // a column of losses per token -> scores of the clips, the higher the better
  raw: (column) => column.map((loss) => -loss),
  min_max: (column) => {
    const low = Math.min(...column), high = Math.max(...column);
    return column.map((loss) => (high - loss) / (high - low || 1));
  },
  z: (column) => {
    const mean = column.reduce((sum, loss) => sum + loss, 0) / column.length;
    const sd = Math.sqrt(column.reduce((sum, loss) => sum + (loss - mean) ** 2, 0) / column.length);
    return column.map((loss) => (mean - loss) / (sd || 1));
  },
  pmi: (column, tokens) => {
    const sums = column.map((loss) => -loss * tokens), best = Math.max(...sums);
    const prior = best + Math.log(sums.reduce((sum, one) => sum + Math.exp(one - best), 0) / sums.length);
    return sums.map((one) => one - prior);
  },
};
const explore = (root) => {
  const data = JSON.parse(root.querySelector("script").textContent);
  const form = root.querySelector("form"), list = root.querySelector("ol"), status = root.querySelector(".status");
  const bytes = Uint8Array.from(atob(data.losses), (letter) => letter.charCodeAt(0));
  const steps = new DataView(bytes.buffer), texts = data.captions.length, clips = data.clips.length;
  const loss = (clip, text) => data.low + ((data.high - data.low) * steps.getUint16(2 * (clip * texts + text), true)) / 65535;
  const columns = data.captions.map((_, text) => data.clips.map((_, clip) => loss(clip, text)));
  const known = {}; // scores by method, one column a text
  const scores = (method) => (known[method] ??= columns.map((one, text) => METHODS[method](one, data.tokens[text])));
  const own = data.clips.map((_, clip) => data.captions.filter((_, text) => data.owners[text] === clip));
  const order = (n, score, raw) => [...Array(n).keys()].sort((a, b) => score(b) - score(a) || raw(a) - raw(b));
  const hubs = {}; // by method: of how many clips a text is the first
  const firsts = (method) => {
    if (hubs[method]) return hubs[method];
    const of = scores(method), count = Array(texts).fill(0);
    for (let clip = 0; clip < clips; clip++) {
      let best = 0;
      for (let text = 1; text < texts; text++) {
        const more = of[text][clip] - of[best][clip];
        if (more > 0 || (more === 0 && columns[text][clip] < columns[best][clip])) best = text;
      }
      count[best] += 1;
    }
    return (hubs[method] = count);
  };
  const chosen = (name) => form.elements[name].value;
  const fill = () => {
    const wanted = form.elements.filter.value.toLowerCase(), byText = chosen("direction") === "t2a";
    const names = byText ? data.captions : data.clips.map((clip, i) => `${clip}: ${own[i][0] ?? ""}`);
    const options = names.map((name, i) => [name, i]).filter(([name]) => name.toLowerCase().includes(wanted));
    form.elements.query.replaceChildren(...options.map(([name, i]) => new Option(name, i)));
    if (options.length) form.elements.query.selectedIndex = 0;
    show();
  };
  const sound = (clip) => {
    if (!data.sounds[clip]) return [];
    const audio = document.createElement("audio");
    Object.assign(audio, { controls: true, preload: "none", src: `data:audio/ogg;base64,${data.sounds[clip]}` });
    audio.setAttribute("aria-label", data.clips[clip]);
    return [audio];
  };
  const row = (right, label, about, more = []) => {
    const item = document.createElement("li"), name = document.createElement("span"), note = document.createElement("small");
    name.textContent = `${right ? "✓ " : ""}${label}`;
    note.textContent = about;
    item.className = right ? "right" : "";
    item.append(name, note, ...more);
    return item;
  };
  const show = () => {
    const method = chosen("method"), byText = chosen("direction") === "t2a", of = scores(method);
    const query = Number(form.elements.query.value);
    if (form.elements.query.selectedIndex < 0) {
      status.textContent = "No query holds this.";
      return list.replaceChildren();
    }
    const n = byText ? clips : texts;
    const score = byText ? (clip) => of[query][clip] : (text) => of[text][query];
    const raw = byText ? (clip) => columns[query][clip] : (text) => columns[text][query];
    const right = byText ? (clip) => data.owners[query] === clip : (text) => data.owners[text] === query;
    const ranked = order(n, score, raw), place = ranked.findIndex(right) + 1, counts = byText ? [] : firsts(method);
    const hub = byText ? "" : ` The text that is first for most clips is so for ${Math.max(...counts)} of ${clips}.`;
    status.textContent = `The right ${byText ? "clip" : "text"} is number ${place} of ${n}.${hub}`;
    const items = ranked.slice(0, TOP).map((one) => byText
      ? row(right(one), own[one].slice(0, 2).join(" / "), `${data.clips[one]}, score ${score(one).toFixed(3)}`, sound(one))
      : row(right(one), data.captions[one], `score ${score(one).toFixed(3)}, first for ${counts[one]} clips`));
    list.replaceChildren(...items);
    const heard = root.querySelector(".asked") ?? document.createElement("div");
    heard.className = "asked";
    heard.replaceChildren(...(byText ? [] : sound(query)));
    list.before(heard);
  };
  form.hidden = false;
  root.querySelector(".missing").hidden = true;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", ({ target }) => (["direction", "filter"].includes(target.name) ? fill() : show()));
  fill();
};
document.querySelectorAll(".explorer").forEach(explore);
