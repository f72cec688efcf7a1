// The console in a browser: one live stream per page, acts with a preview, keys. Pages work without it for reading.
"use strict";
(() => {
  const body = document.body, base = body.dataset.base || "", topics = body.dataset.live || "";
  const $ = id => document.getElementById(id);
  const STALE_MS = 5000, REFRESH_MS = 2000, RETRY_MAX_MS = 15000;
  const DONE_MS = [0, 1500, 5000];    // what an act began may take a moment, on a page without a stream, too

  // --- live ---------------------------------------------------------------------------------------------------
  let source = null, paused = false, heard = 0, retry = 1000, refreshed = Date.now(), over = false;

  const say = text => { const place = $("freshness"); if (place) place.textContent = text; };
  const clock = () => new Date().toTimeString().slice(0, 8);

  function refresh(now) {
    if (paused || document.hidden || document.querySelector("dialog[open]")) return;
    if (!now && Date.now() - refreshed < REFRESH_MS) return;
    refreshed = Date.now();
    body.dispatchEvent(new CustomEvent("refresh"));
  }

  function figures(rates) {
    for (const place of document.querySelectorAll("[data-figure]")) {
      const value = place.dataset.figure.split(".").reduce((part, name) => part && part[name], rates);
      if (typeof value === "number") {
        place.textContent = Number.isInteger(value) ? value.toLocaleString("en") : value.toFixed(value < 10 ? 2 : 1);
      }
    }
  }

  function open() {
    if (!topics || paused || over || document.hidden) return;
    close();
    source = new EventSource(`${base}/api/v1/stream?topics=${encodeURIComponent(topics)}`);
    let first = true;
    source.addEventListener("state", () => { alive(); if (!first) refresh(true); else if (retry > 1000) refresh(true); first = false; retry = 1000; });
    source.addEventListener("rates", event => { alive(); figures(JSON.parse(event.data)); refresh(false); });
    source.addEventListener("bye", event => {
      close();
      const why = JSON.parse(event.data).why;
      if (why === "login ended") ended(); else again();
    });
    source.onerror = () => { close(); check(); };
  }

  function alive() { heard = Date.now(); body.classList.remove("stale"); say("● live"); }
  function close() { if (source) { source.close(); source = null; } }
  function again() { if (!over) { setTimeout(open, retry); retry = Math.min(retry * 2, RETRY_MAX_MS); } }
  function check() {          // a stream that breaks does not say why: a short request does
    fetch(`${base}/api/v1/whoami`, { headers: { Accept: "application/json" } })
      .then(answer => answer.status === 401 || answer.status === 403 ? ended() : again(), again);
  }
  function ended() {
    over = true;
    body.classList.add("stale");
    say("‖ logged out");
    const banner = $("banner"), link = document.createElement("a");
    link.href = `${base}/login?to=${encodeURIComponent(location.pathname + location.search)}`;
    link.textContent = "Log in again";
    banner.replaceChildren("Your session has ended. ", link);
    banner.hidden = false;
  }

  setInterval(() => {
    if (topics && heard && !paused && Date.now() - heard > STALE_MS) { body.classList.add("stale"); say(`△ nothing heard for ${Math.round((Date.now() - heard) / 1000)} s`); }
  }, 1000);
  document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else { open(); refresh(true); } });
  addEventListener("pagehide", close);
  addEventListener("pageshow", event => { if (event.persisted) open(); });
  const pause = $("pause");
  if (pause) {
    pause.hidden = false;
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.setAttribute("aria-pressed", String(paused));
      pause.textContent = paused ? "go on" : "pause";
      if (paused) { close(); body.classList.add("stale"); say(`‖ paused at ${clock()}`); } else { open(); refresh(true); }
    });
  }

  // --- acts: preview, reason, name typed where something is lost -------------------------------------------------
  const dialog = $("act");
  let current = null;

  function parse(text) {
    const [method, path, ...rest] = text.split(" ");
    return { method, url: `${base}/api/v1/${path}`, body: rest.length ? JSON.parse(rest.join(" ")) : {} };
  }
  const send = (act, extra, headers = {}) => fetch(act.url, {
    method: act.method, headers: { "Content-Type": "application/json", Accept: "application/json", ...headers },
    body: JSON.stringify({ ...act.body, ...extra }) }).then(async answer => ({ ok: answer.ok, status: answer.status, body: await answer.json().catch(() => ({})) }));

  function preview(values) {
    const list = document.createElement("dl");
    list.className = "tree";
    for (const [name, value] of Object.entries(values)) {
      if (["dry_run", "act", "target"].includes(name)) continue;
      const row = document.createElement("div"), term = document.createElement("dt"), text = document.createElement("dd");
      term.textContent = name.replaceAll("_", " ");
      text.textContent = typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
      row.append(term, text);
      list.append(row);
    }
    $("act-preview").replaceChildren("This touches:", list);
  }

  // data-body: the text field whose JSON is sent.  data-place: the one whose text is the name.
  function asked(button) {
    const act = parse(button.dataset.act), place = button.dataset.place && $(button.dataset.place).value.trim();
    if (button.dataset.body) act.body = JSON.parse($(button.dataset.body).value);
    return place ? { ...act, url: act.url + encodeURIComponent(place), name: place, then: `${base}/drafts/${encodeURIComponent(place)}` } : act;
  }

  async function begin(button) {
    let act;
    try { act = asked(button); } catch (error) { act = { ...parse(button.dataset.act), broken: `This is no JSON: ${error.message}` }; }
    current = { ...act, name: act.name || button.dataset.name, danger: button.dataset.danger || "", key: crypto.randomUUID ? crypto.randomUUID() : String(Math.random()) };
    $("act-title").textContent = `${button.textContent}: ${current.name}`;
    $("act-problem").textContent = "";
    $("act-preview").replaceChildren("Looking what this touches …");
    $("act-typed").hidden = !current.danger;
    $("act-asked").hidden = !button.dataset.ask;
    $("act-name").value = $("act-reason").value = $("act-to").value = "";
    dialog.showModal();
    if (current.broken) { $("act-preview").replaceChildren(); $("act-problem").textContent = current.broken; return; }
    if (button.dataset.ask) { current.asks = button.dataset.ask; $("act-preview").replaceChildren(); $("act-to").focus(); return; }
    await look();
  }

  async function look() {
    const answer = await send(current, { dry_run: true }).catch(() => ({ ok: false, body: {} }));
    if (answer.ok) preview(answer.body);
    else { $("act-preview").replaceChildren(); $("act-problem").textContent = answer.body.detail || "The node does not answer."; }
  }

  // an act that asks for one more thing shows what it touches once that is said
  $("act-to")?.addEventListener("change", () => {
    $("act-problem").textContent = "";
    current.body = { ...current.body, [current.asks]: $("act-to").value.trim() };
    look();
  });

  document.addEventListener("click", event => {
    const button = event.target.closest("button.act");
    if (button) begin(button);
  });
  $("act-do")?.addEventListener("click", async () => {
    if (current.broken) return;
    if (current.asks && !current.body[current.asks]) { $("act-problem").textContent = "Say where to."; return; }
    const reason = $("act-reason").value.trim();
    if (current.danger && ($("act-name").value !== current.name || !reason)) {
      $("act-problem").textContent = "This loses data: give a reason, and type the name exactly as it is.";
      return;
    }
    const answer = await send(current, { reason }, { "Idempotency-Key": current.key }).catch(() => ({ ok: false, body: {} }));
    if (answer.ok) { dialog.close(); if (current.then) location.assign(current.then); for (const later of DONE_MS) setTimeout(() => refresh(true), later); }
    else $("act-problem").textContent = answer.body.detail || "The node does not answer.";
  });

  function controls() { for (const button of document.querySelectorAll("button.act[hidden]")) button.hidden = false; }
  new MutationObserver(controls).observe(body, { childList: true, subtree: true, attributes: true, attributeFilter: ["hidden"] });
  controls();

  // --- tail: rows are made of texts, whatever is in them ----------------------------------------------------------
  const tail = $("tail"), TAIL_ROWS = 200, TAIL_CHARACTERS = 300;
  if (tail) {
    let held = false, missed = 0, stream = null;
    const tell = text => { $("tail-state").textContent = text; };
    const row = event => {
      const line = document.createElement("tr");
      const shown = event.readable ? event.payload ?? (event.payload_base64 ? `base64 ${event.payload_base64}` : "") : "(not yours to read)";
      for (const text of [event.time.slice(11, 23), event.topic, event.size_bytes, shown.slice(0, TAIL_CHARACTERS), `${event.stream}/${event.partition}:${event.offset}`]) {
        const cell = document.createElement("td");
        cell.textContent = text;
        line.append(cell);
      }
      return line;
    };
    const follow = () => {
      stream?.close();
      stream = new EventSource(`${base}/api/v1/tail?${new URLSearchParams({ filter: tail.dataset.filter, match: tail.dataset.match })}`);
      stream.addEventListener("tail", event => {
        if (held) return;
        tell(`● following ${tail.dataset.filter || "#"}${missed ? `; ${missed} passed by unseen` : ""}`);
        for (const one of JSON.parse(event.data)) tail.prepend(row(one));
        while (tail.rows.length > TAIL_ROWS) tail.deleteRow(-1);
      });
      stream.addEventListener("skipped", event => { missed += JSON.parse(event.data); });
      stream.addEventListener("bye", event => { stream.close(); if (JSON.parse(event.data).why === "login ended") ended(); });
      stream.onerror = () => { tell("△ the stream broke; it is opened again"); };
    };
    $("tail-pause").addEventListener("click", () => {
      held = !held;
      $("tail-pause").setAttribute("aria-pressed", String(held));
      $("tail-pause").textContent = held ? "go on" : "pause";
      if (held) { stream.close(); tell("‖ paused"); } else follow();
    });
    addEventListener("pagehide", () => stream.close());
    document.addEventListener("visibilitychange", () => { if (document.hidden) stream.close(); else if (!held) follow(); });
    follow();
  }

  // --- keys -------------------------------------------------------------------------------------------------------
  const OFF = "meshgate-keys-off", PLACES = { o: "", t: "topology", n: "nodes", l: "links", s: "streams", b: "browse", c: "consumers", p: "policies", d: "denials", a: "audit" };
  let go = 0;
  const box = $("keys");
  if (box) { box.checked = localStorage.getItem(OFF) === "1"; box.addEventListener("change", () => localStorage.setItem(OFF, box.checked ? "1" : "")); }
  document.addEventListener("keydown", event => {
    if (localStorage.getItem(OFF) === "1" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
    if (event.key === "g") { go = Date.now(); return; }
    if (Date.now() - go < 1500 && event.key in PLACES) { location.href = `${base}/${PLACES[event.key]}`; return; }
    go = 0;
    if (event.key === "/" && $("filter")) { event.preventDefault(); $("filter").focus(); }
    if (event.key === "?") location.href = `${base}/help`;
  });

  open();
})();
