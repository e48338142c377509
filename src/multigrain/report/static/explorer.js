// The data explorer. Rows arrive packed (see explorer.py), are filtered by index, and only those in view have elements,
// so that 25,000 rows scroll like fifty. Every text is written through textContent.
const root = document.querySelector(".explorer");

const ROW_HEIGHT = 64; // pixels; the style sheet says the same
const SVG = "http://www.w3.org/2000/svg";

const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

const score = (thousandths) => (thousandths < 0 ? "−" : "") + (Math.abs(thousandths) / 1000).toFixed(3).replace(/^0/, "");

const number = (value) => value.toLocaleString("en");

async function unpack() {
  const binary = atob(document.getElementById("packed-rows").textContent);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/** Marks by row id, kept in the browser where it lets a page keep anything. */
class Marks {
  constructor(key) {
    this.key = `multigrain-marks-${key}`;
    let kept = [];
    try {
      kept = JSON.parse(localStorage.getItem(this.key) ?? "[]");
    } catch { /* storage is switched off: marks last as long as the page */ }
    this.ids = new Set(kept);
  }

  has(id) { return this.ids.has(id); }

  toggle(id) {
    if (!this.ids.delete(id)) this.ids.add(id);
    this.save();
  }

  clear() {
    this.ids.clear();
    this.save();
  }

  save() {
    try {
      localStorage.setItem(this.key, JSON.stringify([...this.ids]));
    } catch { /* as above */ }
  }

  jsonl() { return [...this.ids].map((id) => JSON.stringify({ id, mark: "bad" }) + "\n").join(""); }
}

/** Which rows are shown, in which order. */
class Selection {
  constructor(data, marks) {
    this.data = data;
    this.marks = marks;
    this.count = data.rows.id.length;
  }

  /** Row numbers that pass every filter. */
  find({ search, level, source, flag, order }) {
    const { rows } = this.data;
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    const hits = words.map((word) => this.hits(word));
    const slots = level ? [level - 1] : [0, 1, 2, 3];
    const found = [];
    for (let row = 0; row < this.count; row++) {
      if (source && !slots.some((slot) => (rows.asked[row][slot] > 0) === (source === "written"))) continue;
      if (flag && !this.flagged(row, flag)) continue;
      const matches = (hit) => hit.queries[row] || slots.some((slot) => hit.texts[rows.negatives[row][slot]])
        || (!level && (hit.texts[rows.positive[row]] || rows.id[row].startsWith(hit.word)));
      if (!hits.every(matches)) continue;
      found.push(row);
    }
    return this.sort(found, order);
  }

  hits(word) {
    this.texts ??= this.data.texts.map((text) => text.toLowerCase());
    this.queries ??= this.data.rows.query.map((query) => query.toLowerCase());
    const among = (list) => Uint8Array.from(list, (text) => text.includes(word));
    return { word, texts: among(this.texts), queries: among(this.queries) };
  }

  flagged(row, flag) {
    const { rows, actions } = this.data;
    if (flag === "bad") return this.marks.has(rows.id[row]);
    if (flag === "held") return rows.held[row] === true;
    if (flag === "broken") return rows.held[row] === false;
    return rows.actions[row].some((index) => `action:${actions[index].kind}` === flag);
  }

  sort(found, order) {
    const { similarity } = this.data.rows;
    const keys = {
      margin: (row) => similarity[row][0] - Math.max(...similarity[row].slice(1)),
      positive: (row) => similarity[row][0],
      easy: (row) => similarity[row][1],
      hard: (row) => -similarity[row][4],
    };
    if (!order) return found;
    const key = new Map(found.map((row) => [row, keys[order](row)]));
    return found.sort((a, b) => key.get(a) - key.get(b) || a - b);
  }
}

const draw = (parent, tag, attributes) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return parent.appendChild(element);
};

const drawing = (className, height) => {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ class: className, width: "100%", height, "aria-hidden": "true" })) svg.setAttribute(name, value);
  return svg;
};

/** A scale of similarities, in thousandths: round ends around all values, and round ticks. */
function scaleOf(low, high) {
  const step = high - low > 600 ? 200 : 100;
  const axis = { low: Math.floor(low / step) * step, high: Math.ceil(high / step) * step };
  if (axis.high === axis.low) axis.high += step;
  axis.ticks = Array.from({ length: (axis.high - axis.low) / step + 1 }, (_, i) => axis.low + i * step);
  axis.at = (value) => `${(2 + 96 * (value - axis.low) / (axis.high - axis.low)).toFixed(1)}%`;
  return axis;
}

/** The scale's ticks in figures, above the list. */
function labels(axis) {
  const svg = drawing("labels", 22);
  for (const tick of axis.ticks) {
    draw(svg, "line", { x1: axis.at(tick), x2: axis.at(tick), y1: 17, y2: 22 });
    const text = draw(svg, "text", { x: axis.at(tick), y: 14, "text-anchor": "middle" });
    text.textContent = (tick < 0 ? "−" : "") + String(Math.abs(tick) / 1000).replace(/^0\./, ".");
  }
  return svg;
}

/** A line with one dot a text, by similarity, as under the sample rows. */
function strip(similarities, axis) {
  const svg = drawing("strip", 22);
  draw(svg, "line", { x1: 0, x2: "100%", y1: 11, y2: 11 });
  for (const tick of axis.ticks) draw(svg, "line", { class: "tick", x1: axis.at(tick), x2: axis.at(tick), y1: 4, y2: 18 });
  [1, 2, 3, 4, 0].forEach((which) => {
    const x = axis.at(similarities[which]);
    const group = draw(svg, "g", { class: which ? `level-${which}` : "positive" });
    draw(group, "circle", { cx: x, cy: 11, r: 7.5 });
    draw(group, "text", { x, y: 15 }).textContent = which || "P";
  });
  return svg;
}

class Explorer {
  constructor(data) {
    this.data = data;
    this.marks = new Marks(root.dataset.key);
    this.selection = new Selection(data, this.marks);
    this.list = root.querySelector(".list");
    this.sizer = root.querySelector(".sizer");
    this.detail = root.querySelector(".open-row");
    this.filters = Object.fromEntries([...root.querySelectorAll("[name]")].map((field) => [field.name, field]));
    this.current = null; // the open row's number in the data set
    const all = data.rows.similarity.flat();
    const [low, high] = all.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
    this.axis = scaleOf(low, high);
    this.scale = root.querySelector(".scale");
    this.scale.append(labels(this.axis));
    this.offerFlags();
    this.listen();
    this.refresh();
  }

  /** How much of the list is there for rows: its height without the scale, which stays on top. */
  get room() { return this.list.clientHeight - this.scale.offsetHeight; }

  offerFlags() {
    for (const kind of new Set(this.data.actions.map((action) => action.kind))) {
      const option = make("option", "", kind);
      option.value = `action:${kind}`;
      this.filters.flag.append(option);
    }
  }

  listen() {
    let waiting;
    this.filters.search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.refresh(), 120);
    });
    for (const name of ["level", "source", "flag", "order"]) this.filters[name].addEventListener("change", () => this.refresh());
    let waits = false;
    const redraw = () => {
      if (waits) return;
      waits = true;
      requestAnimationFrame(() => { waits = false; this.draw(); });
    };
    this.list.addEventListener("scroll", redraw, { passive: true });
    new ResizeObserver(redraw).observe(this.list);
    this.list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (!option) return;
      this.open(Number(option.dataset.place));
      if (matchMedia("(max-width: 54rem)").matches) this.detail.scrollIntoView({ block: "nearest" });
    });
    this.list.addEventListener("keydown", (event) => this.press(event));
    this.filters.download.addEventListener("click", () => this.download());
    this.filters.clear.addEventListener("click", () => { this.marks.clear(); this.marked(); });
  }

  refresh() {
    const { search, level, source, flag, order } = this.filters;
    this.level = Number(level.value);
    this.scale.hidden = this.level > 0; // a level's rows show a text in the place of the line
    this.found = this.selection.find({
      search: search.value, level: this.level, source: source.value, flag: flag.value, order: order.value,
    });
    const total = number(this.selection.count);
    root.querySelector(".found").textContent = this.found.length === this.selection.count
      ? `${total} rows` : `${number(this.found.length)} of ${total} rows`;
    this.sizer.style.height = `${this.found.length * ROW_HEIGHT}px`;
    if (this.found.length && this.found.includes(this.current)) this.show();
    else this.open(0);
    this.list.scrollTop = Math.max(0, this.found.indexOf(this.current)) * ROW_HEIGHT;
    this.marked();
  }

  press(event) {
    const page = Math.max(1, Math.floor(this.room / ROW_HEIGHT) - 1);
    const place = this.found.indexOf(this.current);
    const target = {
      ArrowDown: place + 1, ArrowUp: place - 1, PageDown: place + page, PageUp: place - page, Home: 0, End: this.found.length - 1,
    }[event.key];
    if (target !== undefined) this.open(Math.min(Math.max(target, 0), this.found.length - 1));
    else if (event.key === "b" && !event.ctrlKey && !event.metaKey && this.current !== null) this.toggle();
    else return;
    event.preventDefault();
  }

  open(place) {
    this.current = this.found[place] ?? null;
    const top = place * ROW_HEIGHT;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    else if (top + ROW_HEIGHT > this.list.scrollTop + this.room) {
      this.list.scrollTop = top + ROW_HEIGHT - this.room;
    }
    this.draw();
    this.show();
  }

  toggle() {
    this.marks.toggle(this.data.rows.id[this.current]);
    this.marked();
  }

  marked() {
    const size = this.marks.ids.size;
    root.querySelector(".tally").textContent = size ? `${number(size)} ${size === 1 ? "row" : "rows"} marked bad.` : "No rows marked.";
    this.filters.download.disabled = this.filters.clear.disabled = !size;
    const button = this.detail.querySelector(".mark");
    if (button) {
      const bad = this.marks.has(this.data.rows.id[this.current]);
      button.classList.toggle("on", bad);
      button.textContent = bad ? "Unmark" : "Mark bad";
    }
    this.draw();
  }

  download() {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([this.marks.jsonl()], { type: "application/jsonl" }));
    link.download = "marks.jsonl";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  /** Make elements for the rows in view, and for a few beyond. */
  draw() {
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW_HEIGHT) - 4);
    const last = Math.min(this.found.length, Math.ceil((this.list.scrollTop + this.room) / ROW_HEIGHT) + 4);
    const options = [];
    for (let place = first; place < last; place++) options.push(this.option(place));
    this.sizer.replaceChildren(...options);
    const open = options.find((option) => option.getAttribute("aria-selected") === "true");
    if (open) this.list.setAttribute("aria-activedescendant", open.id);
    else this.list.removeAttribute("aria-activedescendant");
  }

  option(place) {
    const { rows, texts } = this.data;
    const row = this.found[place];
    const bad = this.marks.has(rows.id[row]);
    const option = make("div", bad ? "option bad" : "option");
    option.id = `explorer-row-${row}`;
    option.dataset.place = place;
    const attributes = {
      role: "option", "aria-selected": row === this.current, "aria-posinset": place + 1, "aria-setsize": this.found.length,
    };
    for (const [name, value] of Object.entries(attributes)) option.setAttribute(name, value);
    option.style.top = `${place * ROW_HEIGHT}px`;
    const query = option.appendChild(make("div", "query", rows.query[row]));
    query.dir = "auto";
    if (bad) query.prepend(make("span", "chip bad", "bad"), " ");
    if (this.level) {
      const line = option.appendChild(make("div", "look"));
      line.append(make("span", `key level-${this.level}`, this.level), ` ${score(rows.similarity[row][this.level])} `);
      line.appendChild(make("bdi", "", texts[rows.negatives[row][this.level - 1]].slice(0, 160)));
    } else option.append(strip(rows.similarity[row], this.axis));
    return option;
  }

  /** Fill the pane beside the list with the open row. */
  show() {
    const row = this.current;
    if (row === null) {
      this.detail.replaceChildren(make("p", "note", "No row passes the filters."));
      return;
    }
    const { rows, actions } = this.data;
    const query = make("h3", "text", rows.query[row]);
    query.dir = "auto";
    const button = make("button", "mark", "Mark bad");
    button.type = "button";
    button.addEventListener("click", () => this.toggle());
    const texts = make("ol", "texts");
    const add = (kind, key, title, which, index, chip) => {
      const item = texts.appendChild(make("li"));
      const head = item.appendChild(make("p", "head"));
      head.append(make("span", `key ${kind}`, key), " ", make("b", "", title), " ", make("span", "number", score(rows.similarity[row][which])), " ");
      if (chip) head.appendChild(make("span", "chip")).appendChild(make("bdi", "", chip));
      item.appendChild(make("p", "text", this.data.texts[index])).dir = "auto";
      const cut = this.data.cut[index];
      if (cut) item.append(make("p", "note", `${number(cut)} more characters in the data set`));
    };
    add("positive", "P", "Positive", 0, rows.positive[row], rows.document[row]);
    for (const level of [4, 3, 2, 1]) {
      const asked = rows.asked[row][level - 1];
      const source = asked === 0 ? "mined" : asked === level ? "written" : `written as level ${asked}`;
      add(`level-${level}`, level, `Level ${level}`, level, rows.negatives[row][level - 1], source);
    }
    const notes = rows.actions[row].map((index) => actions[index].words);
    if (rows.held[row] !== null) notes.push(`the written order ${rows.held[row] ? "held" : "did not hold"} when measured`);
    const foot = make("p", "note", notes.length ? `Audit: ${notes.join("; ")}. ` : "");
    foot.append("Row ", make("code", "", rows.id[row]));
    this.detail.replaceChildren(query, button, texts, foot);
    this.detail.scrollTop = 0;
    this.marked();
  }
}

// Unpacking waits until the reader comes near: the page opens as fast with 25,000 rows as with fifty.
if (root) {
  const waiting = document.querySelector("#explorer .waiting");
  waiting.textContent = "";
  const start = async () => {
    if (typeof DecompressionStream === "undefined") {
      waiting.textContent = "This browser is too old for the explorer; everything else on this page works.";
      return;
    }
    waiting.textContent = "Unpacking the rows …";
    let data;
    try {
      data = await unpack();
    } catch {
      waiting.textContent = "The rows on this page cannot be read: the file is damaged or cut off.";
      return;
    }
    root.hidden = false;
    waiting.remove();
    new Explorer(data);
  };
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    start();
  }, { rootMargin: "900px 0px" }).observe(document.getElementById("explorer"));
}
