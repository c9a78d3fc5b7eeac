// A table of texts: a click on a head sorts, check boxes choose rows, or radio buttons one. Texts are set as texts, so that no name is
// read as HTML.

function element(kind, parent, text = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  parent.append(made);
  return made;
}

function checkBox(parent, label, type = "checkbox") {
  const box = element("input", parent);
  box.type = type;
  box.setAttribute("aria-label", label);
  return box;
}

class View {
  constructor(model, el) {
    Object.assign(this, { model, el });
    el.classList.add("imgclf-table");
    const table = element("table", el);
    this.head = element("tr", element("thead", table));
    this.body = element("tbody", table);
    this.empty = element("p", el);
    this.showHead();
    this.showRows();
  }

  showHead() {
    this.head.replaceChildren();
    const first = element(this.model.get("single") ? "td" : "th", this.head);
    this.all = this.model.get("single") ? null : checkBox(first, "choose all rows that are shown");
    for (const name of this.model.get("columns")) {
      const cell = element("th", this.head);
      cell.scope = "col";
      cell.dataset.column = name;
      cell.classList.toggle("imgclf-numeric", this.model.get("numeric").includes(name));
      element("button", cell, name).title = `Sort by ${name}`;
    }
    this.showSort();
  }

  showSort() {
    const direction = this.model.get("descending") ? "descending" : "ascending";
    for (const cell of this.head.querySelectorAll("[data-column]")) {
      cell.ariaSort = cell.dataset.column === this.model.get("sort") ? direction : "none";
    }
  }

  showRows() {
    const focused = this.body.contains(document.activeElement) ? document.activeElement.value : null;
    const numeric = this.model.get("columns").map((name) => this.model.get("numeric").includes(name));
    this.body.replaceChildren();
    for (const { id, texts } of this.model.get("rows")) {
      const row = element("tr", this.body);
      checkBox(element("td", row), texts.join(", "), this.model.get("single") ? "radio" : "checkbox").value = id;
      texts.forEach((text, at) => {
        const cell = element("td", row, text);
        cell.title = text;
        cell.classList.toggle("imgclf-numeric", Boolean(numeric[at]));
      });
    }
    this.empty.textContent = this.model.get("empty");
    this.empty.hidden = this.model.get("rows").length > 0;
    this.showSelected();
    if (focused) this.boxes().find((box) => box.value === focused)?.focus();
  }

  showSelected() {
    const selected = new Set(this.model.get("selected"));
    for (const box of this.boxes()) {
      box.checked = selected.has(box.value);
      box.closest("tr").classList.toggle("imgclf-chosen", box.checked);
    }
    if (!this.all) return;
    const chosen = this.boxes().filter((box) => box.checked).length;
    this.all.checked = chosen > 0 && chosen === this.boxes().length;
    this.all.indeterminate = chosen > 0 && !this.all.checked;
  }

  boxes() {
    return [...this.body.querySelectorAll("input")];
  }

  set(values) {
    for (const [name, value] of Object.entries(values)) this.model.set(name, value);
    this.model.save_changes();
  }

  choose(ids, isChosen) {
    if (this.model.get("single")) return this.set({ selected: ids });
    const others = this.model.get("selected").filter((id) => !ids.includes(id));
    this.set({ selected: isChosen ? [...others, ...ids] : others });
  }

  change({ target }) {
    const ids = target === this.all ? this.boxes().map((box) => box.value) : [target.value];
    this.choose(ids, target.checked);
  }

  click({ target }) {
    const column = target.closest("th")?.dataset.column;
    const box = target.closest("tbody tr")?.querySelector("input");
    if (column) {
      const isAgain = column === this.model.get("sort");
      this.set({ sort: column, descending: isAgain && !this.model.get("descending") });
    } else if (box && target !== box) {
      this.choose([box.value], !box.checked);
    }
  }

  keydown(event) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const at = this.boxes().indexOf(event.target);
    if (!step || at < 0) return;
    event.preventDefault();
    const next = this.boxes()[at + step];
    next?.focus();
    if (next && this.model.get("single")) this.choose([next.value], true);
  }
}

export default {
  render({ model, el }) {
    const view = new View(model, el);
    const closed = new AbortController();
    // Clicks and choices end here, since the panel around the table would take the focus from it.
    for (const type of ["click", "change"]) {
      const act = (event) => (event.stopPropagation(), view[type](event));
      el.addEventListener(type, act, { signal: closed.signal });
    }
    el.addEventListener("keydown", (event) => view.keydown(event), { signal: closed.signal });
    const changes = {
      columns: "showHead",
      numeric: "showHead",
      rows: "showRows",
      empty: "showRows",
      selected: "showSelected",
      sort: "showSort",
      descending: "showSort",
    };
    const listeners = Object.entries(changes).map(([name, method]) => [`change:${name}`, () => view[method]()]);
    for (const [name, act] of listeners) model.on(name, act);
    return () => {
      closed.abort();
      for (const [name, act] of listeners) model.off(name, act);
    };
  },
};
