// The browser's cache of pictures. sheet.py puts this file before sheet.js, since a widget is one file.

const MAX_CACHED = 400; // pictures
const BATCH = 32; // pictures per request: the first ones of a page of 100 appear early
const PREFETCH_BATCH = 8; // fewer, since key presses wait while Python answers
const RETRY_MS = 20; // before a new request for pictures that were not ready
const TIMEOUT_MS = 5000; // of a request

// An LRU cache for all views of one model: blob URLs by key, the most recently used ones last.
class PictureCache {
  urls = new Map();
  images = new Map(); // keeps pictures decoded, so that a tile shows them at once
  broken = new Set();
  views = new Set();
  timer = null;

  constructor(model) {
    this.model = model;
    model.on("msg:custom", (content, buffers) => content.pictures && this.receive(content.pictures, buffers));
    model.on("change:tiles", () => this.changePage());
    model.on("change:prefetch", () => this.request());
    this.begin(model.get("first_pictures"));
  }

  async begin(pictures) {
    await Promise.all(Object.entries(pictures).map(([key, bytes]) => this.add(key, bytes)));
    for (const view of this.views) view.showPictures();
    this.request();
  }

  // A broken picture is tried again on a new page. The pictures of the page become the most recently used.
  changePage() {
    this.broken.clear();
    for (const key of this.onPage()) {
      const url = this.urls.get(key);
      if (url && this.urls.delete(key)) this.urls.set(key, url);
    }
    this.request();
  }

  onPage() {
    return this.model.get("tiles").map((tile) => tile.key);
  }

  missing(keys) {
    return [...new Set(keys)].filter((key) => !this.urls.has(key) && !this.broken.has(key));
  }

  // One request at a time: if the user turns pages quickly, only the last page is requested.
  request() {
    if (this.timer !== null) return;
    const now = this.missing(this.onPage()).slice(0, BATCH);
    const keys = now.length ? now : this.missing(this.model.get("prefetch")).slice(0, PREFETCH_BATCH);
    if (!keys.length) return;
    this.requested = keys.length;
    this.requestAfter(TIMEOUT_MS);
    this.model.send({ request: keys });
  }

  requestAfter(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = null;
      this.request();
    }, milliseconds);
  }

  async receive(keys, buffers) {
    this.requestAfter(TIMEOUT_MS);
    await Promise.all(keys.map((key, i) => this.add(key, buffers[i])));
    this.evict();
    for (const view of this.views) view.showPictures();
    this.requestAfter(keys.length < this.requested ? RETRY_MS : 0);
  }

  async add(key, bytes) {
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
      this.broken.add(key); // shown on the tile
    }
  }

  evict() {
    const most = Math.max(MAX_CACHED, this.model.get("tiles").length + this.model.get("prefetch").length);
    for (const key of [...this.urls.keys()].slice(0, -most)) this.remove(key);
  }

  remove(key) {
    URL.revokeObjectURL(this.urls.get(key));
    this.urls.delete(key);
    this.images.delete(key);
  }

  close() {
    clearTimeout(this.timer);
    for (const key of [...this.urls.keys()]) this.remove(key);
  }
}
