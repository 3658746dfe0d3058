"use strict";
// What the page does: sorting, filtering, switches, details of a cell, theme. Text is only ever set as text.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);
const data = JSON.parse(one("#data").textContent);

// ---- theme: the system's until the reader chooses; storage may be refused to files
const stored = (value) => {
  try {
    return value ? localStorage.setItem("bench-theme", value) : localStorage.getItem("bench-theme");
  } catch {
    return null;
  }
};
const root = document.documentElement;
if (stored()) root.dataset.theme = stored();
one("#theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  stored(root.dataset.theme);
});

// ---- sorting: within a group; summaries stay last, rows without a number before them; a third click undoes it
const names = new Intl.Collator(undefined, { numeric: true });
all("tr.line").forEach((row, place) => { row.dataset.place = place; });
function sort(head) {
  const table = head.closest("table");
  const place = [...head.parentNode.cells].indexOf(head);
  const before = head.getAttribute("aria-sort");
  const first = head.dataset.down === "1" ? "descending" : "ascending";
  const next = before === "none" ? first : before === first ? (first === "ascending" ? "descending" : "ascending") : "none";
  for (const other of all(".heads th", table)) other.setAttribute("aria-sort", other === head ? next : "none");
  const sign = next === "ascending" ? 1 : -1;
  const key = (row) => {
    if (place === 0) return row.cells[0].textContent;
    const value = row.cells[place].dataset.v;
    return value === "" ? null : Number(value);
  };
  const compare = (a, b) => {
    if (next === "none") return a.row.dataset.place - b.row.dataset.place;
    if (a.last !== b.last) return a.last - b.last;
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
    return sign * (place === 0 ? names.compare(a.key, b.key) : a.key - b.key);
  };
  for (const body of table.tBodies) {
    const rows = all("tr.line", body).map((row) => ({ row, key: key(row), last: row.classList.contains("summary") }));
    body.append(...rows.sort(compare).map((item) => item.row));
  }
}

// ---- filters and switches
const words = one("#words");
const dataset = one("#dataset");
const off = new Set(); // class names that a switch hides
// asked of the names and not of the layout, which would have to be made for tables out of sight
const seen = (part) => !part.closest("[hidden]") && ![...part.classList].some((name) => off.has(name));
const about = new WeakMap(all("[data-datasets]").map((part) => [part, JSON.parse(part.dataset.datasets)]));
function refresh() {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  const set = dataset ? dataset.value : "";
  off.clear();
  for (const box of all("[data-switch]")) if (!box.checked) off.add(box.dataset.switch);
  document.body.dataset.off = [...off].join(" ");
  let shown = 0;
  for (const part of all("[data-datasets]")) {
    const named = about.get(part);
    part.hidden = Boolean(set) && named.length > 0 && !named.includes(set);
  }
  for (const sheet of all("section.sheet")) {
    if (sheet.hidden) continue;
    const heads = all(".heads th", sheet);
    const metric = picked(sheet);
    heads.forEach((head, place) => {
      const other = set && head.dataset.dataset && head.dataset.dataset !== set;
      const hide = Boolean(other || (metric && place && head.dataset.metric !== metric));
      if (head.hidden !== hide) for (const row of all(".heads, tr.line", sheet)) row.cells[place].hidden = hide;
    });
    let start = 1;
    for (const span of all(".groups th", sheet)) {
      const count = Number(span.dataset.count);
      const own = heads.slice(start, start + count).filter(seen);
      span.hidden = own.length === 0;
      span.colSpan = own.length || 1;
      start += count;
    }
    let visible = 0;
    for (const body of all("tbody:not(.title)", sheet)) {
      let inside = 0;
      for (const row of all("tr.line", body)) {
        const text = row.dataset.words.toLowerCase();
        const summary = row.classList.contains("summary");
        const other = set && (row.dataset.dataset || body.dataset.dataset || set) !== set;
        row.hidden = Boolean(other || (!summary && !wanted.every((word) => text.includes(word))));
        if (!summary && !row.hidden && !(off.has("published") && row.classList.contains("published"))) inside += 1;
      }
      body.hidden = inside === 0;
      visible += inside;
    }
    for (const title of all("tbody.title", sheet)) {
      let next = title.nextElementSibling;
      while (next && next.hidden && !next.classList.contains("title")) next = next.nextElementSibling;
      title.hidden = !next || next.classList.contains("title");
    }
    sheet.classList.toggle("empty", visible === 0);
    shown += visible;
  }
  // a heading goes with the last of what stands below it
  for (const title of all("main h2")) {
    const parts = [];
    for (let next = title.nextElementSibling; next && next.tagName !== "H2"; next = next.nextElementSibling) {
      parts.push(...(next.matches("section") ? [next] : all("figure", next)));
    }
    title.hidden = parts.length > 0 && parts.every((part) => part.hidden || part.classList.contains("empty"));
  }
  // no link of the contents leads to what is not shown
  for (const link of all("nav a")) {
    const part = document.getElementById(link.hash.slice(1));
    link.parentNode.hidden = !part || part.hidden || part.classList.contains("empty");
  }
  one("#shown").textContent = `${shown} row${shown === 1 ? "" : "s"}`;
  one("#nothing").hidden = shown > 0;
  all("table").forEach(enter);
  soon();
}
// the metric that a table of very many columns shows; empty for all. One that a switch hides gives way to the next
function picked(sheet) {
  const boxes = all(".pick input", sheet);
  const shown = boxes.find((box) => box.checked);
  if (!shown || seen(shown.parentNode)) return shown?.value ?? "";
  const next = boxes.find((box) => seen(box.parentNode));
  next.checked = true;
  return next.value;
}
for (const box of all(".pick input")) box.addEventListener("change", refresh);
let waiting = 0;
words.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(refresh, 120);
});
if (dataset) dataset.addEventListener("change", refresh);
for (const box of all("[data-switch]")) box.addEventListener("change", refresh);

// ---- heads stay below the bar, and a table that goes on to the right fades out; only boxes near the screen are asked
const bar = one(".bar");
const near = new Set();
let following = 0;
function follow() {
  following = 0;
  const top = bar.offsetHeight;
  root.style.setProperty("--bar", `${top}px`);
  const found = [...near].map((box) => {
    const [outer, inner] = [box, box.firstElementChild].map((part) => part.getBoundingClientRect());
    const head = one("thead", box)?.offsetHeight ?? 0;
    const last = one("tbody tr.line:last-child", box)?.offsetHeight ?? 0;
    const down = Math.max(0, Math.min(top - outer.top - 1, inner.height - head - last));
    return { box, fits: inner.width <= outer.width, more: inner.right > outer.right + 1, down };
  });
  for (const { box, fits, more, down } of found) {
    box.classList.toggle("fits", fits);
    box.classList.toggle("more", more);
    box.style.setProperty("--down", `${fits ? 0 : down}px`);
  }
}
function soon() {
  following ||= requestAnimationFrame(follow);
}
const watch = new IntersectionObserver((boxes) => {
  for (const { target, isIntersecting } of boxes) near[isIntersecting ? "add" : "delete"](target);
  soon();
}, { rootMargin: "200px" });
for (const box of all(".scroll")) watch.observe(box);
// scrolling does not bubble: caught on the way down, that of the boxes is heard too
document.addEventListener("scroll", soon, { capture: true, passive: true });
addEventListener("resize", soon);

// ---- moving between cells: one stop for the tab key a table, arrows inside
function enter(table) {
  const here = (button) => seen(button.parentNode) && seen(button.closest("tr"));
  const old = one('td button[tabindex="0"]', table);
  if (old && here(old)) return;
  if (old) old.tabIndex = -1;
  for (const button of table.querySelectorAll("tr.line td button")) {
    if (!here(button)) continue;
    button.tabIndex = 0;
    return;
  }
}
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
function move(button, [down, right]) {
  const table = button.closest("table");
  const rows = all("tr.line", table).filter(seen);
  let row = rows.indexOf(button.closest("tr"));
  let place = button.parentNode.cellIndex;
  for (;;) {
    row += down;
    place += right;
    const cell = rows[row]?.cells[place];
    if (!cell) return;
    const next = seen(cell) && one("button", cell);
    if (!next) continue;
    button.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
    return;
  }
}

// ---- notes fold on a narrow screen and are all on paper, where nothing scrolls: wide tables are cut between groups
const FITS = 10; // columns on an upright page
if (matchMedia("(max-width: 40rem)").matches) for (const notes of all("details.notes")) notes.open = false;
function pieces(table) {
  const parts = [[]];
  let width = 0;
  let start = 1;
  for (const span of all(".groups th", table)) {
    const columns = Array.from({ length: Number(span.dataset.count) }, (_, place) => start + place);
    start += columns.length;
    if (width && width + span.colSpan > FITS) {
      parts.push([]);
      width = 0;
    }
    width += span.hidden ? 0 : span.colSpan;
    parts.at(-1).push({ columns, span: all(".groups th", table).indexOf(span) });
  }
  return parts.map((groups) => {
    const copy = table.cloneNode(true);
    const columns = new Set(groups.flatMap((group) => group.columns));
    const spans = new Set(groups.map((group) => group.span));
    for (const row of all(".heads, tr.line", copy)) {
      [...row.cells].forEach((cell, place) => place === 0 || columns.has(place) || cell.remove());
    }
    all(".groups th", copy).forEach((span, place) => spans.has(place) || span.remove());
    copy.classList.add("piece");
    return copy;
  });
}
let picks = []; // what was shown before a page was printed, where every metric is
function pick(boxes) {
  for (const box of boxes) box.checked = true;
  if (boxes.length) refresh();
}
addEventListener("beforeprint", () => {
  picks = all(".pick input:checked");
  pick(all('.pick input[value=""]'));
  for (const notes of all("details.notes")) notes.open = true;
  for (const table of all(".sheet table")) {
    const columns = all(".heads th", table).filter(seen).length - 1;
    if (columns <= FITS || all(".groups th", table).length < 2) continue;
    table.after(...pieces(table));
    table.classList.add("whole");
  }
});
addEventListener("afterprint", () => {
  for (const piece of all(".piece")) piece.remove();
  for (const table of all(".whole")) table.classList.remove("whole");
  pick(picks);
});

// ---- details
const dialog = one("#details");
function element(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}
function facts(pairs) {
  const list = element("dl");
  for (const [name, value] of pairs) {
    if (value !== "" && value !== null && value !== undefined) list.append(element("dt", name), element("dd", `${value}`));
  }
  return list;
}
const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);
function recorded(number, open) {
  const record = data.records[number];
  const shared = (name) => (record[name] === null ? null : data.shared[record[name]]);
  const [protocol, encoder, place, images] = ["protocol", "encoder", "environment", "dataset"].map(shared);
  const part = element("details");
  part.open = open;
  part.append(element("summary", record.title));
  part.append(
    facts([
      ["record", record.file],
      ["ended", record.created],
      ["protocol", `${protocol.name} v${protocol.version} (${protocol.hash}), metrics v${record.metrics}`],
      ["encoder", encoder ? `${encoder.name}, weights ${encoder.weights_sha256.slice(0, 12)}` : "none"],
      ["input", `${record.input} px`],
      ["images", `${sum(images.train)} training, ${sum(images.test_good)} good and ${sum(images.test_bad)} bad test`],
      ["data", images.fingerprint],
      ["machine", `${place.device}, ${place.cpu}, ${place.threads} thread${place.threads === 1 ? "" : "s"}, ${place.precision}`],
      ["commit", place.commit],
    ]),
  );
  const command = element("pre", record.command);
  command.className = "command";
  const button = element("button", "copy");
  button.type = "button";
  button.addEventListener("click", () => copy(button, record.command));
  const heading = element("h4", "Command to repeat it", button);
  heading.className = "repeat";
  part.append(heading, command);
  const rows = Object.entries(shared("config")).map(([key, value]) => {
    const row = element("tr", "", element("th", key), element("td", JSON.stringify(value)));
    row.className = record.changed.includes(key) ? "changed" : "";
    return row;
  });
  const title = `Configuration, ${record.changed.length} of ${rows.length} values changed from the paper's`;
  part.append(element("h4", title), element("table", "", element("tbody", "", ...rows)));
  return part;
}
function details(button) {
  const cell = button.parentNode;
  const row = cell.parentNode;
  const table = cell.closest("table");
  const head = one(".heads", table).cells[cell.cellIndex];
  const plain = (part) => {
    const copy = part.cloneNode(true);
    for (const mark of all("sup", copy)) mark.remove();
    return copy.textContent.trim();
  };
  const block = row.parentNode.dataset.title;
  const group = head.dataset.group;
  const where = [block, plain(row.cells[0]), group, plain(head)].filter(Boolean).join(" · ");
  const title = element("h2", where);
  title.id = "details-title";
  const value = element("p", button.textContent);
  value.className = "value";
  const difference = one(".difference", cell);
  const rank = cell.classList.contains("best") ? "best" : cell.classList.contains("second") ? "second best" : "";
  const body = one("div", dialog);
  body.replaceChildren(title, value);
  body.append(
    facts([
      ["95 % interval", button.dataset.i ? `${button.dataset.i}, over test images` : ""],
      ["ours − published", difference?.textContent ?? ""],
      ["place", rank ? `${rank} of its column and group` : ""],
      ["in print", button.dataset.w],
    ]),
  );
  const marks = all("sup", cell).flatMap((mark) => mark.textContent.split(","));
  for (const note of all(".notes p[data-mark]", cell.closest("section"))) {
    if (marks.includes(note.dataset.mark)) body.append(element("p", plain(note)));
  }
  const records = button.dataset.r ? button.dataset.r.split(" ") : [];
  records.forEach((number, index) => body.append(recorded(number, index === 0)));
  dialog.showModal();
  dialog.scrollTop = 0;
}
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

// ---- copying; where the clipboard is refused, as some browsers do to files, the old way
let texts = null;
function written(button) {
  texts ??= JSON.parse(one("#texts").textContent);
  return texts[button.parentNode.dataset.table][label(button)];
}
const label = (button) => button.dataset.name ?? button.textContent;
function copy(button, text) {
  const name = label(button);
  const said = (ok) => {
    button.dataset.name = name;
    button.textContent = ok ? "copied" : "not allowed";
    setTimeout(() => { button.textContent = name; }, 1500);
  };
  const byHand = () => {
    const area = element("textarea");
    area.value = text;
    // beside the button: outside of an open dialog nothing can be selected
    button.after(area);
    area.select();
    said(document.execCommand("copy"));
    area.remove();
  };
  if (navigator.clipboard) navigator.clipboard.writeText(text).then(() => said(true), byHand);
  else byHand();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("main button");
  if (!button) return;
  if (button.closest(".copy")) copy(button, written(button));
  if (button.closest("td")) details(button);
  else if (button.closest(".heads")) sort(button.parentNode);
});
document.addEventListener("keydown", (event) => {
  const button = event.target.closest("main td button");
  if (!button || !STEPS[event.key]) return;
  event.preventDefault();
  move(button, STEPS[event.key]);
});
refresh();
