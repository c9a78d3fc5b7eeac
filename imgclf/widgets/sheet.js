// A page of images as tiles. It shows the state of the Python widget, requests pictures, and sends clicks and label choices.

function element(kind, name, parent) {
  const made = document.createElement(kind);
  made.className = `imgclf-${name}`;
  parent.append(made);
  return made;
}

// One cell of the grid. It is created once and reused for other images.
class Tile {
  content = {};

  constructor(parent) {
    this.el = element("div", "tile", parent);
    this.el.setAttribute("role", "option");
    const inside = element("div", "inside", this.el);
    const frame = element("div", "picture", inside);
    this.image = element("img", "absent", frame);
    this.image.draggable = false;
    this.image.decoding = "sync";
    this.image.onload = () => this.image.classList.remove("imgclf-absent");
    this.broken = element("span", "broken", frame);
    this.broken.textContent = "cannot be shown";
    this.broken.hidden = true;
    const line = element("div", "line", inside);
    this.colour = element("span", "colour", line);
    this.select = element("select", "label", line);
    this.select.tabIndex = -1;
    this.name = element("span", "name", line);
    this.badge = element("span", "badge", this.el);
    element("span", "check", this.el).textContent = "✓";
  }

  // The first option is hidden. It shows a label that is not in the list, or whose list is not filled yet.
  setLabels(labels) {
    this.labels = labels;
    this.select.replaceChildren(new Option());
    this.select.options[0].hidden = true;
    this.choose();
  }

  isFilled() {
    return this.select.length > this.labels.length;
  }

  fill() {
    if (this.isFilled()) return;
    this.select.append(...this.labels.map((label) => new Option(label)));
    this.choose();
  }

  choose() {
    const at = 1 + this.labels.indexOf(this.content.label);
    const known = at > 0 && this.isFilled();
    if (!known) this.select.options[0].text = this.content.label ?? "";
    this.select.selectedIndex = known ? at : 0;
  }

  show(content) {
    const { key, name, label, colour, badge, dimmed } = content;
    const isOther = key !== this.content.key;
    if (!isOther && JSON.stringify(content) === JSON.stringify(this.content)) return;
    this.content = content;
    if (isOther) this.showPicture(undefined, false); // never show an old picture with a new label
    this.image.alt = `${name}, ${label}`;
    this.select.title = label;
    this.select.setAttribute("aria-label", `label of ${name}`);
    this.name.textContent = this.name.title = this.image.title = name;
    this.badge.textContent = badge;
    this.colour.style.background = colour;
    this.colour.hidden = !colour;
    this.el.classList.toggle("imgclf-dimmed", dimmed);
    this.choose();
  }

  showPicture(url, broken) {
    this.broken.hidden = !broken;
    if (url === this.url) return;
    this.url = url;
    if (url) this.image.src = url;
    else this.image.removeAttribute("src");
    this.image.classList.toggle("imgclf-absent", !url || !this.image.complete);
  }

  setSelected(selected) {
    this.el.classList.toggle("imgclf-selected", selected);
    this.el.setAttribute("aria-selected", selected);
  }

  setCursor(here) {
    this.el.classList.toggle("imgclf-cursor", here);
    this.select.tabIndex = here ? 0 : -1; // Tab reaches the list of this tile only
  }
}

class View {
  tiles = [];
  selected = new Set();
  cursor = -1;

  constructor(model, el, cache) {
    Object.assign(this, { model, el, cache });
    el.classList.add("imgclf-sheet");
    el.setAttribute("role", "listbox");
    el.setAttribute("aria-multiselectable", "true");
    el.setAttribute("aria-label", "images");
    this.empty = element("p", "empty", el);
    cache.views.add(this);
    this.resize();
    this.show();
  }

  resize() {
    for (const name of ["rows", "columns"]) this.el.style.setProperty(`--imgclf-${name}`, this.model.get(name));
  }

  show() {
    const contents = this.model.get("tiles");
    this.empty.textContent = this.model.get("empty");
    this.empty.hidden = contents.length > 0;
    while (this.tiles.length > contents.length) this.tiles.pop().el.remove();
    while (this.tiles.length < contents.length) this.add();
    this.tiles.forEach((tile, at) => tile.show(contents[at]));
    this.showPictures();
    this.showSelection();
    this.showCursor();
    this.fillLater();
  }

  add() {
    const tile = new Tile(this.el);
    tile.setLabels(this.model.get("labels"));
    tile.setSelected(false);
    this.selected.delete(this.tiles.length); // of a removed tile
    if (this.cursor === this.tiles.length) this.cursor = -1;
    this.tiles.push(tile);
  }

  setLabels() {
    for (const tile of this.tiles) tile.setLabels(this.model.get("labels"));
    this.fillLater();
  }

  // Filling 100 lists of 300 labels at once would block the page for a second. They are filled one by one; `fill` fills the one
  // under the mouse at once.
  fillLater() {
    clearTimeout(this.filling);
    const next = this.tiles.find((tile) => !tile.isFilled());
    if (!next) return;
    this.filling = setTimeout(() => {
      next.fill();
      this.fillLater();
    });
  }

  fill(event) {
    this.tiles[this.indexOf(event)]?.fill();
  }

  showPictures() {
    for (const tile of this.tiles) {
      const { urls, broken } = this.cache;
      if (urls.has(tile.content.key)) tile.showPicture(urls.get(tile.content.key), false);
      else if (broken.has(tile.content.key)) tile.showPicture(undefined, true);
    }
  }

  showSelection() {
    const selected = new Set(this.model.get("selected"));
    const changed = [...this.selected, ...selected].filter((index) => this.selected.has(index) !== selected.has(index));
    for (const index of changed) this.tiles[index]?.setSelected(selected.has(index));
    this.selected = selected;
  }

  showCursor() {
    const cursor = this.model.get("cursor");
    if (cursor === this.cursor) return;
    this.tiles[this.cursor]?.setCursor(false);
    this.tiles[cursor]?.setCursor(true);
    this.cursor = cursor;
  }

  indexOf(event) {
    const tile = event.target.closest(".imgclf-tile");
    return this.tiles.findIndex(({ el }) => el === tile);
  }

  // The message has the key, since the page may change before Python receives it.
  click(event) {
    const index = this.indexOf(event);
    if (index < 0 || event.target.closest("select")) return;
    const ctrl = event.ctrlKey || event.metaKey;
    this.model.send({ click: index, key: this.tiles[index].content.key, shift: event.shiftKey, ctrl });
  }

  choose(event) {
    const index = this.indexOf(event);
    if (index < 0) return;
    const tile = this.tiles[index];
    this.model.send({ label: tile.labels[tile.select.selectedIndex - 1], tile: index, key: tile.content.key });
    tile.choose(); // shows the old label until Python has changed it
  }
}

export default () => {
  let cache;
  return {
    initialize({ model }) {
      cache = new PictureCache(model);
      return () => cache.close();
    },
    render({ model, el }) {
      const view = new View(model, el, cache);
      const closed = new AbortController();
      const events = { click: "click", change: "choose", pointerover: "fill", focusin: "fill" };
      for (const [type, method] of Object.entries(events)) {
        el.addEventListener(type, (event) => view[method](event), { signal: closed.signal });
      }
      const changes = {
        tiles: "show",
        empty: "show",
        labels: "setLabels",
        rows: "resize",
        columns: "resize",
        cursor: "showCursor",
        selected: "showSelection",
      };
      for (const [name, method] of Object.entries(changes)) model.on(`change:${name}`, () => view[method]());
      return () => {
        closed.abort();
        clearTimeout(view.filling);
        cache.views.delete(view);
      };
    },
  };
};
