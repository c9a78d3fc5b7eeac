// A page of images as tiles. Python says what to show; this asks it for pictures, and tells it of clicks and choices.

function element(kind, name, parent) {
  const made = document.createElement(kind);
  made.className = `imgclf-${name}`;
  parent.append(made);
  return made;
}

// One place in the grid. It is made once and shows one image after the other.
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
    this.note = element("span", "note", this.el);
    element("span", "check", this.el).textContent = "✓";
  }

  // The first choice is hidden: it is for a label that is not among the others, or until they are filled in.
  choices(labels) {
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
    const { key, name, label, colour, note, dim } = content;
    const moved = key !== this.content.key;
    if (!moved && JSON.stringify(content) === JSON.stringify(this.content)) return;
    this.content = content;
    if (moved) this.showPicture(undefined, false); // no moment with an old picture over a new label
    this.image.alt = `${name}, ${label}`;
    this.select.setAttribute("aria-label", `label of ${name}`);
    this.name.textContent = this.name.title = this.image.title = name;
    this.note.textContent = note;
    this.colour.style.background = colour;
    this.colour.hidden = !colour;
    this.el.classList.toggle("imgclf-dim", dim);
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

  mark(selected) {
    this.el.classList.toggle("imgclf-selected", selected);
    this.el.setAttribute("aria-selected", selected);
  }

  point(here) {
    this.el.classList.toggle("imgclf-cursor", here);
    this.select.tabIndex = here ? 0 : -1; // Tab reaches the list of this tile, without a stop at every other
  }
}

class View {
  tiles = [];
  marked = new Set();
  framed = -1;

  constructor(model, el, pictures) {
    Object.assign(this, { model, el, pictures });
    el.classList.add("imgclf-sheet");
    el.setAttribute("role", "listbox");
    el.setAttribute("aria-multiselectable", "true");
    el.setAttribute("aria-label", "images");
    this.empty = element("p", "empty", el);
    pictures.views.add(this);
    this.grid();
    this.show();
  }

  grid() {
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
    this.mark();
    this.point();
    this.fillSoon();
  }

  add() {
    const tile = new Tile(this.el);
    tile.choices(this.model.get("labels"));
    tile.mark(false);
    this.marked.delete(this.tiles.length); // of a tile that stood here and was removed
    if (this.framed === this.tiles.length) this.framed = -1;
    this.tiles.push(tile);
  }

  choices() {
    for (const tile of this.tiles) tile.choices(this.model.get("labels"));
    this.fillSoon();
  }

  // 300 labels in 100 lists at once would stop the page for a second: one list after the other, and the one pointed at first.
  fillSoon() {
    clearTimeout(this.filling);
    const next = this.tiles.find((tile) => !tile.isFilled());
    if (!next) return;
    this.filling = setTimeout(() => {
      next.fill();
      this.fillSoon();
    });
  }

  fill(event) {
    this.tiles[this.at(event)]?.fill();
  }

  showPictures() {
    for (const tile of this.tiles) {
      const { urls, broken } = this.pictures;
      if (urls.has(tile.content.key)) tile.showPicture(urls.get(tile.content.key), false);
      else if (broken.has(tile.content.key)) tile.showPicture(undefined, true);
    }
  }

  mark() {
    const selected = new Set(this.model.get("selected"));
    for (const at of [...this.marked, ...selected]) if (this.marked.has(at) !== selected.has(at)) this.tiles[at]?.mark(selected.has(at));
    this.marked = selected;
  }

  point() {
    const cursor = this.model.get("cursor");
    if (cursor === this.framed) return;
    this.tiles[this.framed]?.point(false);
    this.tiles[cursor]?.point(true);
    this.framed = cursor;
  }

  at(event) {
    const tile = event.target.closest(".imgclf-tile");
    return this.tiles.findIndex(({ el }) => el === tile);
  }

  // The key goes along: the page may change before Python hears of it.
  click(event) {
    const at = this.at(event);
    if (at < 0 || event.target.closest("select")) return;
    const ctrl = event.ctrlKey || event.metaKey;
    this.model.send({ click: at, key: this.tiles[at].content.key, shift: event.shiftKey, ctrl });
  }

  open(event) {
    const at = this.at(event);
    if (at >= 0 && !event.target.closest("select")) this.model.send({ open: at, key: this.tiles[at].content.key });
  }

  choose(event) {
    const at = this.at(event);
    if (at < 0) return;
    const tile = this.tiles[at];
    this.model.send({ label: tile.labels[tile.select.selectedIndex - 1], at, key: tile.content.key });
    tile.choose(); // back to what Python holds, until Python says otherwise
  }
}

export default () => {
  let pictures;
  return {
    initialize({ model }) {
      pictures = new Pictures(model);
      return () => pictures.close();
    },
    render({ model, el }) {
      const view = new View(model, el, pictures);
      const gone = new AbortController();
      const events = { click: "click", dblclick: "open", change: "choose", pointerover: "fill", focusin: "fill" };
      for (const [type, method] of Object.entries(events)) {
        el.addEventListener(type, (event) => view[method](event), { signal: gone.signal });
      }
      const changes = { tiles: "show", empty: "show", labels: "choices", rows: "grid", columns: "grid", cursor: "point", selected: "mark" };
      for (const [name, method] of Object.entries(changes)) model.on(`change:${name}`, () => view[method]());
      return () => {
        gone.abort();
        clearTimeout(view.filling);
        pictures.views.delete(view);
      };
    },
  };
};
