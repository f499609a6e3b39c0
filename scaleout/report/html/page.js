"use strict";
// The table: sorted, filtered, a page of rows at a time. Text from the data is only ever set as text.
(() => {
  const data = JSON.parse(document.getElementById("table-data").textContent);
  const root = document.getElementById("table-root");
  const SIZES = [50, 200, 1000];
  const state = { sort: null, falling: false, page: 0, size: SIZES[0] };
  let rows = new Uint32Array(0);

  const make = (name, words = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(words)) {
      if (key === "on") for (const [event, told] of Object.entries(value)) node.addEventListener(event, told);
      else if (key in node && typeof value !== "string") node[key] = value;
      else node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  };

  const bytes = (text) => {
    const raw = atob(text), found = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
    return found.buffer;
  };

  // values of a column, unpacked when they are first asked for
  const values = (column) => {
    if (!column.unpacked) {
      const kinds = { numbers: Float32Array, whole: Uint32Array, codes: { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[column.width] };
      column.unpacked = new kinds[column.kind](bytes(column.bits));
      column.bits = "";
    }
    return column.unpacked;
  };

  const number = (value) => {
    if (!Number.isFinite(value)) return "";
    const size = Math.abs(value);
    if (size >= 1e15) return value.toExponential(3);
    if (size >= 1e4) return Math.round(value).toLocaleString("en-US");
    if (Number.isInteger(value)) return String(value);
    return size >= 1e-5 ? value.toPrecision(4) : value.toExponential(3);
  };

  const look = (column) => {
    if (column.kind === "codes" && column.values.some((value) => value.length > 40)) return { class: "long" };
    const digits = column.kind !== "codes" || column.values.every((value) => !Number.isNaN(Number(value)));
    return digits ? { class: "number" } : {};
  };

  const cell = (column, row) => {
    const value = values(column)[row];
    if (column.kind === "codes") return column.values[value];
    return column.kind === "whole" ? value.toLocaleString("en-US") : number(value);
  };

  const missing = (column) => {
    if (column.kind === "numbers") return (value) => Number.isNaN(value);
    const none = column.kind === "codes" ? column.values.indexOf("") : -1;
    return (value) => value === none;
  };

  // ---- filter: every word must hold; name=value, name<number and name>number look at one column
  const named = (name) =>
    data.columns.find((column) => column.name === name) ||
    data.columns.find((column) => column.name.endsWith("." + name));

  const compared = (word) => {
    const parts = /^([^<>=]+)(<=|>=|=|<|>)(.+)$/.exec(word);
    if (!parts) return null;
    const column = named(parts[1]);
    if (!column) return null;
    const [, , sign, text] = parts;
    const wanted = Number(text.replaceAll(",", ""));
    const holds = {
      "<": (value) => value < wanted, "<=": (value) => value <= wanted, "=": (value) => value === wanted,
      ">": (value) => value > wanted, ">=": (value) => value >= wanted,
    }[sign];
    const found = values(column);
    if (column.kind === "codes") {
      const fits = column.values.map((value) =>
        sign === "=" ? value.toLowerCase() === text : value !== "" && holds(Number(value)));
      return (row) => fits[found[row]];
    }
    if (Number.isNaN(wanted)) return () => false;
    // what is shown as 1.234 is found as such
    if (sign === "=") return (row) => found[row] === wanted || number(found[row]) === number(wanted);
    return (row) => holds(found[row]);
  };

  const contains = (word) => {
    const tests = data.columns.filter((column) => column.kind === "codes").map((column) => {
      const fits = column.values.map((value) => value.toLowerCase().includes(word));
      return fits.some(Boolean) ? [fits, values(column)] : null;
    }).filter(Boolean);
    return (row) => tests.some(([fits, found]) => fits[found[row]]);
  };

  const filtered = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const tests = words.map((word) => compared(word) || contains(word));
    const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const column = data.columns.find((one) => one.role === "status");
    const states = values(column), fits = column.values.map((value) => wanted.has(value));
    const found = new Uint32Array(data.rows);
    let count = 0;
    for (let row = 0; row < data.rows; row++) {
      if (fits[states[row]] && tests.every((test) => test(row))) found[count++] = row;
    }
    return found.subarray(0, count);
  };

  // ---- order: what is missing is last both ways; what is equal keeps the order of the page, the best first
  const sorted = (found) => {
    if (!state.sort) return found;
    const all = values(state.sort), none = missing(state.sort), sign = state.falling ? -1 : 1;
    const there = found.filter((row) => !none(all[row])), gone = found.filter((row) => none(all[row]));
    there.sort((a, b) => sign * (all[a] - all[b]) || a - b);
    const whole = new Uint32Array(found.length);
    whole.set(there);
    whole.set(gone, there.length);
    return whole;
  };

  // ---- what is drawn
  const shown = () => data.columns.filter((column) => column.shown);

  const label = (column) => (column.unit ? `${column.name} [${column.unit}]` : column.name);

  // on paper a long name may go on in the next line
  const broken = (text) => text.match(/[^._]*[._]|[^._]+/g).flatMap((part) => [make("wbr"), part]);

  const head = () => {
    const cells = shown().map((column) => {
      const now = state.sort === column ? (state.falling ? "descending" : "ascending") : "none";
      const button = make("button", { type: "button", on: { click: () => sort(column) } }, ...broken(label(column)));
      return make("th", { scope: "col", "aria-sort": now, ...look(column) }, button);
    });
    return make("tr", {}, ...cells);
  };

  const body = () => {
    const columns = shown(), from = state.page * state.size;
    return Array.from(rows.subarray(from, from + state.size), (row) =>
      make("tr", {}, ...columns.map((column) => make("td", look(column), cell(column, row)))));
  };

  const draw = () => {
    const pages = Math.max(1, Math.ceil(rows.length / state.size));
    state.page = Math.min(Math.max(0, state.page), pages - 1);
    table.tHead.replaceChildren(head());
    table.tBodies[0].replaceChildren(...body());
    const from = state.page * state.size, to = Math.min(from + state.size, rows.length);
    const order = state.sort ? `, by ${state.sort.name}, ${state.falling ? "falling" : "rising"}` : ", the best first";
    told.textContent = rows.length
      ? `${(from + 1).toLocaleString("en-US")} to ${to.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")} rows${order}`
      : "no row fits";
    first.disabled = back.disabled = state.page === 0;
    next.disabled = last.disabled = state.page >= pages - 1;
  };

  const renew = () => {
    state.page = 0;
    rows = sorted(filtered());
    draw();
  };

  const sort = (column) => {
    state.falling = state.sort === column && !state.falling;
    state.sort = column;
    const at = shown().indexOf(column);
    renew();
    table.tHead.querySelectorAll("button")[at].focus();
  };

  const turn = (page) => () => {
    state.page = page();
    draw();
  };

  // ---- controls
  let waiting = 0;
  const later = () => {
    clearTimeout(waiting);
    waiting = setTimeout(renew, 150);
  };
  const search = make("input", {
    type: "search", id: "table-search", spellcheck: "false", autocomplete: "off",
    placeholder: "words, name=value, name<number", on: { input: later },
  });
  const states = data.columns.find((column) => column.role === "status");
  const boxes = states.values.map((value) =>
    make("input", { type: "checkbox", value, checked: true, on: { change: renew } }));
  const picks = data.columns.map((column) =>
    make("label", {}, make("input", {
      type: "checkbox", checked: column.shown,
      on: { change: (event) => { column.shown = event.target.checked; draw(); } },
    }), ` ${label(column)}`));
  const size = make("select", { on: { change: () => { state.size = Number(size.value); state.page = 0; draw(); } } },
    ...SIZES.map((many) => make("option", { value: String(many) }, `${many} rows`)));
  const button = (words, page) => make("button", { type: "button", on: { click: turn(page) } }, words);
  const first = button("First", () => 0), back = button("Previous", () => state.page - 1);
  const next = button("Next", () => state.page + 1), last = button("Last", () => Infinity);
  const told = make("p", { role: "status", class: "told" });
  const table = make("table", {}, make("caption", { class: "unseen" }, "points of the sweep"),
    make("thead"), make("tbody"));

  root.append(
    make("div", { class: "controls" },
      make("label", { for: "table-search" }, "Filter "), search,
      make("fieldset", {}, make("legend", { class: "unseen" }, "status"),
        ...boxes.map((box) => make("label", {}, box, ` ${box.value}`))),
      make("details", {}, make("summary", {}, "Columns"), make("div", { class: "picks" }, ...picks))),
    told,
    make("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "points" }, table),
    make("div", { class: "pager" }, first, back, next, last, make("label", {}, "a page ", size)));
  renew();
})();
