"use strict";
/* What the page can do with a script: sort, filter, tell more where one points, change its theme. What is chosen stands in the
   page's address, so that a view can be linked: #sort=cost&order=desc&show=ok&q=claude&theme=dark */
(() => {
  const root = document.documentElement;
  const table = document.getElementById("models-table");
  const body = table ? table.tBodies[0] : null;
  const rows = body ? Array.from(body.rows) : [];
  const heads = table ? Array.from(table.tHead.rows[0].cells) : [];
  const columns = new Map(heads.map((cell, place) => [cell.dataset.sort, { cell, place }]).filter(([key]) => key));
  const START = { sort: "first", order: "asc", show: "all", q: "", theme: "" };
  const SHOWS = { all: "All", ok: "Answered", failed: "Failed", free: "Free" };
  const CHOICES = { sort: (key) => columns.has(key), order: ["asc", "desc"], show: Object.keys(SHOWS), theme: ["light", "dark"] };
  let state = { ...START };

  const make = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  /* The address */

  const read = () => {
    const told = new URLSearchParams(location.hash.slice(1));
    const found = { ...START };
    for (const name of Object.keys(START)) {
      const value = told.get(name);
      const allowed = CHOICES[name];
      const known = !allowed || (Array.isArray(allowed) ? allowed.includes(value) : allowed(value));
      if (value !== null && known) found[name] = value;
    }
    return found;
  };

  const write = () => {
    const told = new URLSearchParams(Object.entries(state).filter(([name, value]) => value !== START[name]));
    history.replaceState(null, "", "#" + told);
  };

  const change = (changes) => {
    state = { ...state, ...changes };
    write();
    show();
  };

  /* The table */

  const values = new Map(rows.map((row) => [row, Array.from(row.cells, (cell) => {
    const text = cell.dataset.v;
    if (text === undefined) return null;
    return cell.classList.contains("number") ? Number(text) : text.toLowerCase();
  })]));
  const words = new Map(rows.map((row) => [row, Array.from(row.cells, (cell) => cell.textContent).join(" ").toLowerCase()]));

  const compare = (place, sign) => (one, other) => {
    const a = values.get(one)[place];
    const b = values.get(other)[place];
    if (a === b) return one.dataset.m - other.dataset.m;
    if (a === null || b === null) return a === null ? 1 : -1;
    return a < b ? -sign : sign;
  };

  const wanted = (row) => {
    const said = words.get(row);
    const kind = state.show === "all" || row.hasAttribute("data-" + state.show);
    return kind && state.q.toLowerCase().split(/\s+/).every((word) => said.includes(word));
  };

  const show = () => {
    if (state.theme) root.dataset.theme = state.theme;
    else delete root.dataset.theme;
    if (!body) return;
    const { place, cell } = columns.get(state.sort);
    for (const head of heads) head.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", state.order === "asc" ? "ascending" : "descending");
    body.append(...rows.slice().sort(compare(place, state.order === "asc" ? 1 : -1)));
    let seen = 0;
    for (const row of rows) {
      row.hidden = !wanted(row);
      if (!row.hidden) seen += 1;
    }
    count.textContent = `${seen} of ${rows.length} shown`;
    nothing.hidden = seen > 0;
    if (search.value !== state.q) search.value = state.q;
    by.value = state.sort;
    turn.textContent = state.order === "asc" ? "▲" : "▼";
    for (const radio of choice.querySelectorAll("input")) radio.checked = radio.value === state.show;
  };

  const sortBy = (key) => change({ sort: key, order: key === state.sort && state.order === "asc" ? "desc" : "asc" });

  for (const [key, { cell }] of columns) {
    const button = make("button", { type: "button" }, ...cell.childNodes);
    button.addEventListener("click", () => sortBy(key));
    cell.append(button);
  }

  /* What stands above it */

  const count = make("span", { id: "count", role: "status" });
  const nothing = make("p", { className: "empty", hidden: true }, "No model is like that.");
  const search = make("input", { type: "search", placeholder: "Filter by name, gateway, answer …", autocomplete: "off", spellcheck: false });
  search.setAttribute("aria-label", "Filter the models");
  search.addEventListener("input", () => change({ q: search.value }));
  const choice = make("div", { className: "choice" });
  choice.setAttribute("role", "radiogroup");
  choice.setAttribute("aria-label", "Which models");
  for (const [value, name] of Object.entries(SHOWS)) {
    const many = value === "all" ? rows.length : rows.filter((row) => row.hasAttribute("data-" + value)).length;
    const radio = make("input", { type: "radio", name: "show", value });
    radio.addEventListener("change", () => change({ show: value }));
    choice.append(make("label", {}, radio, name + " ", make("small", {}, String(many))));
  }
  const by = make("select", {}, ...Array.from(columns, ([value, { cell }]) => make("option", { value }, cell.textContent)));
  by.setAttribute("aria-label", "Sort by");
  by.addEventListener("change", () => change({ sort: by.value, order: "asc" }));
  const turn = make("button", { type: "button" });
  turn.setAttribute("aria-label", "Turn the order around");
  turn.addEventListener("click", () => sortBy(state.sort));
  const controls = document.getElementById("controls");
  if (controls) {
    controls.append(search, choice, make("span", { id: "by" }, by, turn), count);
    controls.hidden = false;
    table.parentElement.after(nothing);
  }

  /* The theme */

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = make("button", { type: "button", className: "theme" }, "◐ Theme");
  theme.title = "Light or dark";
  theme.addEventListener("click", () => {
    const now = state.theme || (dark.matches ? "dark" : "light");
    change({ theme: now === "dark" ? "light" : "dark" });
  });
  document.querySelector("header").append(theme);

  /* What is told where one points */

  const tip = document.getElementById("tip");
  const marks = Array.from(document.querySelectorAll("[data-m]")).filter((mark) => mark.localName !== "tr");
  const TOLD = [["first", "First token"], ["total", "Total"], ["speed", "Tokens/s"], ["tokens", "Tokens"], ["cost", "Cost, $"], ["in", "$/M in"], ["out", "$/M out"]];
  const rowOf = new Map(rows.map((row) => [row.dataset.m, row]));
  const alike = new Map();
  for (const mark of marks) {
    alike.set(mark.dataset.m, [...(alike.get(mark.dataset.m) || []), mark]);
    for (const title of mark.querySelectorAll("title")) title.remove();
  }
  let hot = [];

  const cool = () => {
    for (const mark of hot) mark.classList.remove("hot");
    hot = [];
    tip.hidden = true;
  };

  const tell = (place) => {
    const cells = rowOf.get(place).cells;
    const text = (name) => {
      const cell = Array.from(cells).find((each) => each.classList.contains(name));
      return cell ? cell.textContent : "";
    };
    const list = make("dl", {});
    for (const [name, title] of TOLD) list.append(make("dt", {}, title), make("dd", {}, text(name)));
    const model = cells[columns.get("model").place];
    tip.replaceChildren(make("b", {}, model.dataset.v), text("gateway"), list);
  };

  const point = (event) => {
    const mark = event.target.closest ? event.target.closest("[data-m]") : null;
    if (!mark || mark.localName === "tr" || !rowOf.has(mark.dataset.m)) return cool();
    if (!hot.includes(mark)) {
      cool();
      tell(mark.dataset.m);
      hot = alike.get(mark.dataset.m);
      for (const each of hot) each.classList.add("hot");
      tip.hidden = false;
    }
    const { offsetWidth: width, offsetHeight: height } = tip;
    const left = event.clientX + 14 + width > innerWidth ? event.clientX - width - 14 : event.clientX + 14;
    const top = event.clientY + 14 + height > innerHeight ? event.clientY - height - 14 : event.clientY + 14;
    tip.style.left = Math.max(6, left) + "px";
    tip.style.top = Math.max(6, top) + "px";
  };

  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  document.addEventListener("scroll", cool, { passive: true });

  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details")) fold.open = true;
  });
  addEventListener("hashchange", () => {
    state = read();
    show();
  });
  state = read();
  show();
})();
