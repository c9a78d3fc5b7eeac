// The pictures that a sheet has in the browser. Python puts this file before sheet.js, since a widget is one file.

const MOST_KEPT = 400; // pictures in the browser's memory
const AT_ONCE = 32; // pictures asked for in one message: a page of 100 begins to show early
const AT_ONCE_AHEAD = 8; // fewer, since a key press has to wait while Python answers
const PAUSE_MS = 20; // before it asks again for what was not ready
const LOST_MS = 5000; // an answer that took so long will not come

// The pictures of one model, for all of its views: blob URLs by key, the latest ones last.
class Pictures {
  urls = new Map();
  images = new Map(); // holds what is decoded, so that a tile shows it at once
  broken = new Set();
  views = new Set();
  timer = null;

  constructor(model) {
    this.model = model;
    model.on("msg:custom", (content, buffers) => content.pictures && this.take(content.pictures, buffers));
    model.on("change:tiles", () => this.turn());
    model.on("change:ahead", () => this.ask());
    this.ask();
  }

  // A new page: what was broken may be whole again, and what is shown is the last to be forgotten.
  turn() {
    this.broken.clear();
    for (const key of this.shown()) {
      const url = this.urls.get(key);
      if (url && this.urls.delete(key)) this.urls.set(key, url);
    }
    this.ask();
  }

  shown() {
    return this.model.get("tiles").map((tile) => tile.key);
  }

  missing(keys) {
    return [...new Set(keys)].filter((key) => !this.urls.has(key) && !this.broken.has(key));
  }

  // One question at a time: who pages quickly asks for the page where they stop, and not for all on the way.
  ask() {
    if (this.timer !== null) return;
    const now = this.missing(this.shown()).slice(0, AT_ONCE);
    const want = now.length ? now : this.missing(this.model.get("ahead")).slice(0, AT_ONCE_AHEAD);
    if (!want.length) return;
    this.asked = want.length;
    this.again(LOST_MS);
    this.model.send({ want });
  }

  again(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = null;
      this.ask();
    }, milliseconds);
  }

  async take(keys, buffers) {
    this.again(LOST_MS);
    await Promise.all(keys.map((key, i) => this.keep(key, buffers[i])));
    this.forget();
    for (const view of this.views) view.showPictures();
    this.again(keys.length < this.asked ? PAUSE_MS : 0);
  }

  async keep(key, bytes) {
    if (this.urls.has(key)) return;
    const url = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
    const image = new Image();
    image.src = url;
    try {
      await image.decode();
      if (this.urls.has(key)) return URL.revokeObjectURL(url); // another answer was faster
      this.urls.set(key, url);
      this.images.set(key, image);
    } catch {
      URL.revokeObjectURL(url);
      this.broken.add(key); // the tile says so
    }
  }

  forget() {
    const most = Math.max(MOST_KEPT, this.model.get("tiles").length + this.model.get("ahead").length);
    for (const key of [...this.urls.keys()].slice(0, -most)) this.drop(key);
  }

  drop(key) {
    URL.revokeObjectURL(this.urls.get(key));
    this.urls.delete(key);
    this.images.delete(key);
  }

  close() {
    clearTimeout(this.timer);
    for (const key of [...this.urls.keys()]) this.drop(key);
  }
}
