// What the server decides, live. Names of routes and models come from others: they reach the page as text alone, never as HTML.
const SHOWN_ROWS = 30;
const SHOWN_SHARES = 6;
const SHOWN_SCORES = 8;
const COLOURS = 8;
const STALLED_MS = 45_000;
const KEY = "archroute-key";
const REASONS = {
  low_confidence: "not confident enough for a route",
  deadline: "time ran out before the model had answered",
  no_user_text: "there was no user text to read",
  unreachable: "the server with the second model gave no answer",
  pinned: "an earlier decision of the session, repeated",
};
const MODEL_REASONS = {
  asked_for: "asked for",
  cheapest: "the cheapest",
  default_model: "the default model",
  fastest: "the fastest",
  free: "a switch that costs nothing",
  listed: "the first in the list",
  no_default_model: "the first in the file; there is no default model",
  no_latencies: "not measured yet",
  no_prices: "the first in the list; no price is known",
  no_pricing: "a switch; a price is missing",
  no_scores: "the first in the list; no expected scores are known",
  none_fits: "the first in the list; none takes this request",
  only_one_fits: "the only one that takes this request",
  only_target: "the only target",
  over_cap: "the conversation's model; a switch would cost too much",
  quality: "the best expected score for its price",
  ramp: "by the ramp",
  resting: "in place of one that rests",
  same_anchor: "the conversation's model",
  sticky: "the conversation's model",
  weights: "by the weights",
  within_cap: "a switch within the budget",
  withdrawn: "in place of one that was withdrawn",
};

const $ = (id) => document.getElementById(id);
const svg = (tag, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
};
function el(tag, { text, title, class: names, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (title) made.title = title;
  if (names) made.className = names;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
// A name may be of either direction, or hold signs that turn direction: it stays apart from what stands beside it.
const name = (text, names = "") => el("bdi", { text, title: text, class: `name ${text === "other" ? "other" : ""} ${names}`.trim() });

const counts = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const count = (number) => (number < 100_000 ? counts : compact).format(number);
const percent = (part) => {
  const value = 100 * part;
  if (value > 0 && value < 0.1) return "<0.1\u00a0%";
  return `${value < 10 && value > 0 ? value.toFixed(1) : value > 99 && value < 100 ? (Math.floor(value * 10) / 10).toFixed(1) : value.toFixed(0)}\u00a0%`;
};
const ms = (value) => {
  if (value === null || value === undefined) return "–";
  if (value >= 9_995) return `${(value / 1000).toFixed(1)}\u00a0s`;
  return `${value < 9.95 ? value.toFixed(1) : counts.format(Math.round(value))}\u00a0ms`;
};
const money = (value) => {
  const size = Math.abs(value);
  const digits = size === 0 || size >= 1 ? { maximumFractionDigits: 2 } : { minimumFractionDigits: 2, maximumSignificantDigits: 3 };
  const text = new Intl.NumberFormat("en", { style: "currency", currency: "USD", ...digits }).format(size);
  return value < 0 ? `−${text}` : text;
};
const clock = (seconds, parts) => new Date(1000 * seconds).toLocaleString("en-GB", parts ?? { timeStyle: "medium" });
const quantile = (values, part) => values.sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(part * values.length))];

const words = (text, known = {}) => (Object.hasOwn(known, text) ? known[text] : text.replaceAll("_", " "));

// --- the key

let key = sessionStorage.getItem(KEY);
const headers = () => (key ? { Authorization: `Bearer ${key}` } : {});
function askForKey(why) {
  $("key-wrong").textContent = why ?? (key ? "That is not the key." : "");
  key = null;
  sessionStorage.removeItem(KEY);
  $("all").hidden = true;
  $("key").hidden = false;
  say("waiting for the key");
  $("key-text").focus();
}
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  // What cannot stand in a header is no key.
  key = $("key-text").value.replace(/[^\x21-\x7e]/g, "");
  $("key-text").value = "";
  sessionStorage.setItem(KEY, key);
  follow();
});

// --- the stream

let ended = new AbortController();
function say(text, kind = "") {
  if ($("state").textContent !== text) $("state").textContent = text;
  $("state").className = kind;
}
async function* events(body, stalled) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const timer = setTimeout(stalled, STALLED_MS);
    const { done, value } = await reader.read();
    clearTimeout(timer);
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
      if (data.length) yield JSON.parse(data.join("\n"));
    }
  }
}
async function follow() {
  ended.abort();
  const mine = (ended = new AbortController());
  for (let wait = 500; !mine.signal.aborted; wait = Math.min(2 * wait, 15_000)) {
    const once = new AbortController();
    const end = () => once.abort();
    mine.signal.addEventListener("abort", end);
    try {
      const reply = await fetch("v1/activity/stream", { headers: headers(), signal: once.signal, cache: "no-store", credentials: "omit" });
      if (reply.status === 401) return askForKey();
      if (!reply.ok) {
        const { message, code } = (await reply.json()).error;
        if (code === "server_key_needed") return askForKey(message);
        throw new Error(message);
      }
      let isFirst = true;
      for await (const activity of events(reply.body, end)) {
        take(activity, isFirst);
        isFirst = false;
        wait = 500;
      }
      if (!mine.signal.aborted) say("the server has ended; trying again", "lost");
    } catch (error) {
      if (!mine.signal.aborted) say(error.name === "Error" ? error.message : "no connection; trying again", "lost");
    }
    mine.signal.removeEventListener("abort", end);
    await new Promise((done) => setTimeout(done, wait));
  }
}
// A browser has few connections to one server; a page that is not seen needs none.
document.addEventListener("visibilitychange", () => {
  if (!$("key").hidden) return;
  if (document.hidden) ended.abort();
  else follow();
});

// --- what came

let entries = [];
let waiting = [];
let paused = false;
let latest = null;
function take(activity, isFirst) {
  latest = activity;
  $("key").hidden = true;
  $("all").hidden = false;
  say("live", "live");
  const fresh = activity.entries.reverse();
  if (isFirst) {
    // Whoever reads something keeps it, though the connection was lost meanwhile.
    if (!isHeld()) $("rows").replaceChildren();
    const shown = new Set([...$("rows").children].map((each) => each.dataset.id));
    entries = fresh;
    const known = fresh.findIndex((entry) => shown.has(entry.id));
    waiting = fresh.slice(0, known < 0 ? SHOWN_ROWS : known);
  } else {
    entries = [...fresh, ...entries].slice(0, 200);
    waiting = [...fresh, ...waiting].slice(0, SHOWN_ROWS);
  }
  $("about").textContent = activity.forwards ? `${activity.decider} decides, requests are forwarded` : `${activity.decider} decides`;
  $("all").classList.toggle("is-empty", !activity.number);
  if (!activity.number) showCurl(activity.forwards);
  showFigures(activity);
  showNotices(activity);
  showHour(activity.minutes);
  showShares(activity);
  showRows(!isFirst);
}

function figure(label, value, note) {
  return el("div", {}, el("dt", { text: label }), el("dd", { text: value }), el("dd", { text: note }));
}
function showFigures({ totals, since, default_model }) {
  const asked = entries.filter((entry) => entry.shadow_of === null);
  const times = asked.map((entry) => entry.decision_ms).filter((time) => time !== null);
  const sure = asked.map((entry) => entry.confidence).filter((confidence) => confidence !== null);
  const isToday = Date.now() / 1000 - since < 43_200;
  const start = clock(since, { hour: "2-digit", minute: "2-digit", ...(isToday ? {} : { day: "numeric", month: "long" }) });
  const made = [figure("Requests", count(totals.requests), `since ${start}`)];
  const tokens = totals.input_tokens + totals.output_tokens;
  if (totals.priced) {
    const against = default_model ? `if all had gone to ${default_model}` : "with the default model";
    made.push(figure("Saved", money(totals.saved), `spent ${money(totals.cost)} instead of ${money(totals.default_cost)} ${against}`));
  } else if (tokens) {
    const cached = totals.cached_tokens ? ` (${compact.format(totals.cached_tokens)} cached)` : "";
    made.push(figure("Tokens", compact.format(tokens), `${compact.format(totals.input_tokens)} in${cached}, ${compact.format(totals.output_tokens)} out; no prices known`));
  } else {
    made.push(figure("Confidence", sure.length ? percent(quantile(sure, 0.5)) : "–", sure.length ? `median of the last ${count(sure.length)}` : "appears with the first decision"));
  }
  made.push(figure("Decision", times.length ? ms(quantile(times, 0.5)) : "–", times.length ? `median of the last ${count(times.length)}; 95\u00a0% within ${ms(quantile(times, 0.95))}` : "appears with the first decision"));
  made.push(figure("Failed", totals.requests ? percent(totals.failures / totals.requests) : "–", totals.requests ? `${count(totals.failures)} of ${count(totals.requests)}` : "no requests yet"));
  $("figures").replaceChildren(...made);
}

function showNotices({ resting, withdrawn }) {
  const notices = resting.map((model) => el("li", {}, name(model), " rests after failures; others are asked first."));
  for (const { kind, name: place, model } of withdrawn) {
    notices.push(el("li", {}, name(model), ` is withdrawn from the ${kind} `, name(place), ": it did worse than the incumbent."));
  }
  $("notices").replaceChildren(...notices);
  $("notices").hidden = !notices.length;
}

function showHour(minutes) {
  const most = Math.max(...minutes.map((minute) => minute.requests));
  const bars = [];
  minutes.forEach(({ start, requests, failures }, index) => {
    const height = (part) => (most ? (62 * part) / most : 0);
    const x = index * 10 + 1;
    if (requests) bars.push(svg("rect", { x, width: 8, y: 64 - height(requests), height: height(requests) }));
    if (failures) bars.push(svg("rect", { x, width: 8, y: 64 - height(failures), height: height(failures), class: "failed" }));
    const hover = svg("rect", { x: index * 10, width: 10, y: 0, height: 64, class: "all" });
    const label = svg("title", {});
    label.textContent = `${clock(start, { hour: "2-digit", minute: "2-digit" })}: ${count(requests)}${failures ? `, ${count(failures)} failed` : ""}`;
    hover.append(label);
    bars.push(hover);
  });
  $("hour-bars").replaceChildren(...bars);
  const said = most ? `at most ${count(most)}` : "none in the last hour";
  $("hour-note").textContent = said;
  $("hour-bars").setAttribute("aria-label", `Requests a minute over the last hour: ${said}, ${count(minutes[59].requests)} in this minute`);
}

const colours = new Map();
function colour(model) {
  if (!colours.has(model)) colours.set(model, Math.min(colours.size, COLOURS));
  return `var(--m${colours.get(model)})`;
}
function coloured(made, model) {
  made.style.setProperty("--c", colour(model));
  return made;
}
function filled(part, names = "") {
  const fill = el("span", { class: `fill ${names}` });
  fill.style.width = `${Math.max(0, Math.min(100, 100 * part))}%`;
  return el("span", { class: "track", "aria-hidden": "true" }, fill);
}
const allShown = new Set();
function limited(id, items, most, noun) {
  const button = $(`${id}-all`);
  // A button takes the place of one or two lines itself.
  button.hidden = items.length <= most + 2;
  button.textContent = allShown.has(id) ? "Show fewer" : `Show all ${count(items.length)} ${noun}`;
  return button.hidden || allShown.has(id) ? items : items.slice(0, most);
}
for (const [id, again] of [["models", () => showShares(latest)], ["routes", () => showShares(latest)], ["scores", () => showScores()]]) {
  $(`${id}-all`).addEventListener("click", () => {
    if (!allShown.delete(id)) allShown.add(id);
    again();
  });
}
function showShares({ models, routes }) {
  for (const { name: model } of models) if (model !== null) colour(model);
  for (const [id, shares] of [["models", models], ["routes", routes]]) {
    const all = shares.reduce((sum, share) => sum + share.requests, 0);
    const lines = limited(id, shares, SHOWN_SHARES, id).map((share) => {
      const shown = share.name === null ? el("span", { text: "all others", class: "name other" }) : name(share.name);
      const number = el("span", { class: "n", text: count(share.requests) }, el("b", { text: percent(share.requests / all) }));
      if (id === "models") {
        const label = el("span", { class: "label" }, coloured(el("span", { class: "dot" }), share.name), shown);
        return el("li", {}, el("div", { class: "line" }, label, number));
      }
      return el("li", {}, el("div", { class: "line" }, shown, number), filled(share.requests / all, share.name === "other" || share.name === null ? "other" : ""));
    });
    if (!lines.length) lines.push(el("li", { class: "note", text: `no ${id.slice(0, -1)} yet` }));
    $(id).replaceChildren(...lines);
  }
  const parts = new Map();
  for (const share of models) parts.set(colour(share.name), (parts.get(colour(share.name)) ?? 0) + share.requests);
  $("models-bar").replaceChildren(...[...parts].map(([shade, requests]) => {
    const part = el("span");
    part.style.setProperty("--c", shade);
    part.style.flexGrow = requests;
    return part;
  }));
}

// --- the decisions

const isHeld = () => paused || $("rows").querySelector(".detail") !== null;
function showRows(isNew) {
  const isEmpty = !entries.length;
  $("empty").hidden = !isEmpty;
  $("feed").hidden = $("pause").hidden = isEmpty;
  if (!isHeld() && waiting.length) {
    $("rows").prepend(...waiting.map((entry) => row(entry, isNew)));
    waiting = [];
    while ($("rows").rows.length > SHOWN_ROWS) $("rows").lastElementChild.remove();
  }
  const more = waiting.length ? ` (${waiting.length < SHOWN_ROWS ? waiting.length : `${SHOWN_ROWS}+`} new)` : "";
  $("pause").textContent = isHeld() ? `Go on${more}` : "Pause";
}
$("pause").addEventListener("click", () => {
  paused = !isHeld();
  if (!paused) for (const open of $("rows").querySelectorAll("[aria-expanded=true]")) toggle(open.closest("tr"));
  showRows(true);
});
const cell = (names, ...children) => el("td", { class: names, role: "cell" }, ...children);
function statusOf({ outcome, status }) {
  if (outcome === "completed") return String(status);
  return outcome === "aborted" ? "client left" : `${status} failed`;
}
function row(entry, isNew) {
  const { route, model, confidence, tries } = entry;
  const open = el("button", { class: "open", type: "button", "aria-expanded": "false" }, route === null ? el("span", { class: "none", text: "no decision" }) : name(route));
  const made = el("tr", { role: "row", "data-id": entry.id, class: `${isNew ? "is-new" : ""} ${entry.shadow_of ? "is-shadow" : ""}` });
  const meter = confidence === null ? "–" : el("span", { class: "meter" }, filled(confidence), el("span", { class: "n", text: percent(confidence) }));
  made.append(
    cell("time", el("time", { text: clock(entry.time), datetime: new Date(1000 * entry.time).toISOString() })),
    cell("route", open, ...(entry.shadow_of ? [el("span", { class: "tag", text: "shadow" })] : [])),
    cell("confidence", meter),
    cell("model", ...(model === null ? [el("span", { class: "none", text: "–" })] : [coloured(el("span", { class: "dot" }), model), name(model)])),
    cell("n decision", ms(entry.decision_ms)),
    cell(`n first${entry.first_byte_ms === null ? " none" : ""}`, ms(entry.first_byte_ms)),
    cell("n tries", tries.length ? String(tries.length) : "–"),
    cell(`status${entry.outcome === "failed" ? " is-bad" : ""}`, statusOf(entry)),
  );
  open.addEventListener("click", () => {
    toggle(made, entry);
    showRows(true);
  });
  return made;
}
function toggle(shown, entry) {
  const open = shown.querySelector("button.open");
  const isOpen = open.getAttribute("aria-expanded") === "true";
  open.setAttribute("aria-expanded", String(!isOpen));
  if (isOpen) shown.nextElementSibling.remove();
  else shown.after(el("tr", { class: "detail", role: "row" }, el("td", { colspan: "8", role: "cell" }, details(entry))));
}
function details(entry) {
  const { usage } = entry;
  const lines = el("dl");
  const line = (label, ...values) => {
    if (values.length) lines.append(el("dt", { text: label }), ...values.map((value) => el("dd", {}, value)));
  };
  line("asked", `${entry.operation === "route" ? "a decision alone" : entry.operation}${entry.streamed ? ", streamed" : ""}${entry.asked_model ? `, model ${entry.asked_model}` : ""}${entry.client ? `, by ${entry.client}` : ""}`);
  if (entry.decided_by) line("decided by", name(entry.decided_by));
  if (entry.reason) line("why the route", words(entry.reason, REASONS));
  if (entry.model_reason) line("why the model", words(entry.model_reason, MODEL_REASONS));
  line("tries", ...entry.tries.map((each) => {
    const said = each.error ? words(each.error) : "answered";
    const times = each.first_byte_ms === null ? `after ${ms(each.total_ms)}` : `first byte after ${ms(each.first_byte_ms)}`;
    return el("span", {}, name(each.model), `: ${said}${each.status === null ? "" : ` (${each.status})`}, ${times}`);
  }));
  if (entry.total_ms) line("in all", ms(entry.total_ms));
  if (usage.input !== null || usage.output !== null) {
    line("tokens", `${count(usage.input ?? 0)} in${usage.cached ? ` (${count(usage.cached)} cached)` : ""}, ${count(usage.output ?? 0)} out`);
  }
  if (entry.cost !== null) line("cost", money(entry.cost));
  line("id", entry.id);
  return lines;
}

// --- a first request to copy

function showCurl(forwards) {
  const text = "my test fails with an IndexError";
  const body = forwards ? { model: "auto", messages: [{ role: "user", content: text }] } : { messages: text };
  const parts = [
    `curl ${new URL(forwards ? "v1/chat/completions" : "v1/route", location).href}`,
    ...(key ? ['-H "Authorization: Bearer $ARCHROUTE_API_KEY"'] : []),
    "-H 'Content-Type: application/json'",
    `-d '${JSON.stringify(body)}'`,
  ];
  $("curl").textContent = parts.join(" \\\n  ");
}
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("curl").textContent);
    $("copy").textContent = "Copied";
  } catch {
    // Only pages of this machine, or with TLS, may write there.
    getSelection().selectAllChildren($("curl"));
    $("copy").textContent = "Selected";
  }
  setTimeout(() => ($("copy").textContent = "Copy"), 2000);
});

// --- a message to try

let scores = [];
let chosen = null;
function showScores() {
  $("scores").replaceChildren(...limited("scores", scores, SHOWN_SCORES, "scores").map(([route, score]) =>
    el("li", { class: route === chosen ? "is-chosen" : "" }, name(route), filled(score), el("span", { class: "n", text: percent(score) }))));
}
function showAnswer(decision) {
  chosen = decision.route;
  scores = Object.entries(decision.scores ?? {}).sort((a, b) => b[1] - a[1]);
  const { decided_by: decider, reason, model_reason: why } = decision;
  const said = [`${percent(decision.confidence)} sure`, `${decider ? `decided by ${decider} in` : "after"} ${ms(decision.timings.total_ms)}`];
  if (!decision.matched) said.unshift("no route fits");
  if (reason) said.push(words(reason, REASONS));
  const models = decision.models.map((model, index) => {
    const note = index || !why ? [] : [" ", el("span", { class: "why", text: words(why, MODEL_REASONS) })];
    return el("li", {}, el("span", { class: "nth", text: `${index + 1}` }), el("span", {}, name(model), ...note));
  });
  $("chosen").replaceChildren(
    el("p", { class: `name ${decision.matched ? "" : "other"}` }, name(decision.route)),
    el("p", { class: "note", text: said.join(", ") }),
    models.length
      ? el("ol", { class: "models", "aria-label": "Models, in the order to try them" }, ...models)
      : el("p", { class: "note", text: "The configuration names no model for it." }),
  );
  $("answer").hidden = false;
  showScores();
}
async function ask() {
  const message = $("message").value;
  if (!message.trim()) return $("message").focus();
  const button = $("ask").querySelector("button");
  button.disabled = true;
  $("ask-wrong").textContent = "";
  try {
    const reply = await fetch("v1/route", {
      method: "POST",
      headers: { ...headers(), "Content-Type": "application/json" },
      body: JSON.stringify({ messages: message, scores: true }),
      credentials: "omit",
    });
    const body = await reply.json();
    if (reply.status === 401) askForKey();
    else if (reply.ok) showAnswer(body);
    else $("ask-wrong").textContent = body.error.message;
  } catch {
    $("ask-wrong").textContent = "The server does not answer.";
  }
  button.disabled = false;
}
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    ask();
  }
});
// A link may fill the box; what is in it is sent only by hand.
if (location.hash.startsWith("#try=")) $("message").value = new URLSearchParams(location.hash.slice(1)).get("try");

follow();
