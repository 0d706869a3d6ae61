// The page: holds the state, listens to the server, and draws.

import { api, Offline } from "./api.js";
import { drawChat, drawChips } from "./chat.js";
import { $, shape } from "./dom.js";
import { drawBlank, drawJourney, drawSkeleton, journeyResult } from "./journey.js";
import { drawOrders, drawTroubles, drawWho, orderLook } from "./setup.js";
import { currentLanguage, setLanguage, t } from "./texts.js";

const RETRY_SECONDS = 3;
const LIVE_MS = 30e3;

const state = {
  world: null, buyer: null, tier: null, account: null, order: null, product: null, selected: null,
  chats: new Map(), handed: new Map(), owners: new Map(), outgoing: [], online: true, journey: null,
  key() { return `${this.account}/${this.buyer}`; },
  shop() { return this.world.shops.find((one) => one.account_id === this.account); },
  allOrders() { return this.world.orders[this.account][this.buyer]; },
  orders() { return this.allOrders(); },
  messages() { return this.chats.get(this.key()) ?? []; },
  owner() { return this.owners.get(this.key()) ?? "bot"; },
};
let source = null;
let watching = 0;
let flushing = false;
let flushTimer = 0;
let openTimer = 0;

// --- drawing ---

function translate() {
  document.documentElement.lang = currentLanguage() === "en" ? "en" : "zh-CN";
  document.title = `${t("title")} · ${currentLanguage() === "en" ? "Huoji" : "伙计"}`;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", t(node.dataset.label));
    if (node.matches("button")) node.title = t(node.dataset.label);
  }
  for (const node of document.querySelectorAll("[data-placeholder]")) node.placeholder = t(node.dataset.placeholder);
  const button = $("language");
  button.textContent = currentLanguage() === "en" ? "中文" : "EN";
  button.lang = currentLanguage() === "en" ? "zh-CN" : "en";
  button.setAttribute("aria-label", currentLanguage() === "en" ? "改用中文" : "Switch to English");
}

function drawSetup() {
  drawWho(state);
  drawOrders(state, { choose: chooseOrder, chooseProduct: (id) => { state.product = id; } });
  document.querySelector("#orders :checked").parentElement.scrollIntoView({ block: "nearest" });
  drawTroubles(state);
  const link = $("agents");
  link.href = state.world.agents_url ?? `${state.world.docs_url}${currentLanguage() === "en" ? "#en" : ""}`;
  link.lastElementChild.textContent = t(state.world.agents_url ? "console" : "agents");
}

function toEnd() { $("lines").scrollTop = $("lines").scrollHeight; }

const drawLines = () => drawChat(state, { select, again });

function drawTrip() {
  const message = state.messages().find((one) => one.id === state.selected);
  $("trip-text").hidden = !message;
  $("trip-text").textContent = message ? (message.content.text ?? `[${message.content.type}]`) : "";
  const journey = message && state.journey?.message_id === message.id ? state.journey : null;
  $("copy").hidden = !journey;
  $("trip-result").hidden = !journey;
  if (journey) {
    const [look, words] = journeyResult(journey);
    $("trip-result").className = `tag ${look}`;
    $("trip-result").textContent = words;
    $("trip-body").replaceChildren(...drawJourney(journey, state.world, orderName));
  } else {
    $("trip-body").replaceChildren(message ? drawSkeleton() : drawBlank());
  }
}

function orderName(id) {
  const order = state.allOrders().find((one) => one.order_id === id);
  return order ? `${id} · ${orderLook(order)[1]}` : id;
}

function drawAll() {
  translate();
  drawChips(sayAll);
  drawSetup();
  drawLines();
  drawTrip();
}

let noticeTimer = 0;
function notice(text, { error = false, seconds = 0, action = null } = {}) {
  clearTimeout(noticeTimer);
  const box = $("notice"), button = box.querySelector("button");
  box.hidden = !text;
  box.classList.toggle("error", error);
  box.querySelector("span").textContent = text ?? "";
  button.hidden = !action;
  button.textContent = action?.[0] ?? "";
  button.onclick = action?.[1] ?? null;
  if (text && seconds) noticeTimer = setTimeout(() => notice(null), seconds * 1000);
}

// --- the session ---

async function open({ fresh = false, told = null } = {}) {
  source?.close();
  const before = sessionStorage.getItem("huoji-sandbox");
  let world = null;
  try {
    if (before && !fresh) world = await api.world(before).catch((error) => { if (error instanceof Offline) throw error; return null; });
    if (!world) {
      if (before && !fresh && !told) told = t("restarted");
      world = await api.begin(before);
    }
  } catch (error) {
    notice(`${t("failed_start")}。${t("failed_why", error.message)}`, { error: true, action: [t("retry"), () => open({ fresh, told })] });
    clearTimeout(openTimer);
    openTimer = setTimeout(() => open({ fresh, told }), RETRY_SECONDS * 1000);
    return;
  }
  clearTimeout(openTimer);
  sessionStorage.setItem("huoji-sandbox", world.session);
  const first = !state.world;
  state.world = world;
  state.chats = new Map(world.chats.map((chat) => [`${chat.account_id}/${chat.buyer}`, chat.messages]));
  state.handed.clear();
  state.owners.clear();
  state.selected = state.journey = null;
  if (first || !state.shop()) {
    state.account = world.shops[0].account_id;
    state.buyer = world.buyers[0].key;
    state.tier = world.buyers[0].tier;
  }
  if (first || !state.orders().some((one) => one.order_id === state.order)) state.order = suggestedOrder();
  selectLatest();
  for (const { key, message, said } of state.outgoing) {
    // What was typed while the server was away is still to be said, in the new session too.
    if (!world.orders[said.account_id][said.buyer].some((one) => one.order_id === said.order_id)) message.order_id = said.order_id = null;
    take(key, message, false);
    if (key === state.key()) state.selected = message.id;
  }
  notice(told, { seconds: 6 });
  drawAll();
  listen(world.last_event);
}

// The parcel on its way: what most buyers ask about first.
function suggestedOrder() {
  const orders = state.orders();
  return (orders.find((one) => orderLook(one)[0] === "accent" && one.status === "shipped") ?? orders[0])?.order_id ?? null;
}

function listen(after) {
  source?.close();
  source = api.events(state.world.session, after);
  source.addEventListener("message", (event) => {
    const { account_id: account, buyer, message } = JSON.parse(event.data);
    if (message === undefined) return;
    take(`${account}/${buyer}`, message);
  });
  const mine = source;
  source.onopen = () => setOnline(true);
  source.onerror = () => {
    if (mine !== source) return;
    setOnline(false);
    // Closed for good (the server answered with an error): the session may be over.
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => { if (mine === source) open(); }, RETRY_SECONDS * 1000);
  };
}

function setOnline(online) {
  if (online === state.online) { if (online) flush(); return; }
  state.online = online;
  if (!online) notice(t("offline"));
  else {
    const count = state.outgoing.length;
    if (count) notice(t("back", count), { seconds: 4 });
    else if ($("notice").firstElementChild.textContent === t("offline")) notice(null);
    resync().then(flush);
  }
}

async function resync() {
  try {
    state.world = await api.world(state.world.session);
    for (const chat of state.world.chats) {
      for (const message of chat.messages) take(`${chat.account_id}/${chat.buyer}`, message, false);
    }
    drawLines();
  } catch (error) {
    if (!(error instanceof Offline)) await open();
  }
}

function take(key, message, draw = true) {
  const list = state.chats.get(key) ?? [];
  state.chats.set(key, list);
  const place = list.findIndex((one) => one.id === message.id || (message.client_id && one.client_id === message.client_id));
  if (place < 0) {
    list.push(message);
    if (message.author !== "buyer") watchSelected();
  } else {
    if (state.selected === list[place].id) state.selected = message.id;
    list[place] = message;
  }
  if (draw && key === state.key()) drawLines();
}

// --- what the visitor does ---

function chooseOrder(id) {
  state.order = id;
  drawOrders(state, { choose: chooseOrder, chooseProduct: (product) => { state.product = product; } });
  document.querySelector("#orders :checked")?.focus({ preventScroll: true });
}

function switchSeat() {
  state.order = suggestedOrder();
  state.product = null;
  selectLatest();
  drawAll();
}

function selectLatest() {
  const latest = state.messages().findLast((one) => one.author === "buyer" && one.local === undefined);
  state.journey = null;
  state.selected = latest?.id ?? null;
  if (latest) watchJourney();
}

function select(id) {
  if (state.selected !== id) { state.selected = id; state.journey = null; }
  drawLines();
  drawTrip();
  watchJourney();
  if ($("tab-trip").offsetParent) showPart("trip");
}

async function sayAll(texts) {
  for (const [place, text] of texts.entries()) {
    if (place) await new Promise((done) => setTimeout(done, 350));
    say({ type: "text", text });
  }
  if (!matchMedia("(pointer: coarse)").matches) $("say").focus();
}

function say(content) {
  const id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  const message = {
    id: `local-${id}`, client_id: id, author: "buyer", content, at_ms: Date.now(), state: state.online ? "sending" : "waiting",
    order_id: state.order, product_id: state.order ? null : state.product, answers: [], after_ms: null, local: true,
  };
  const said = { account_id: state.account, buyer: state.buyer, tier: state.tier, content, order_id: message.order_id, product_id: message.product_id, client_id: id };
  take(state.key(), message, false);
  state.selected = message.id;
  state.journey = null;
  state.outgoing.push({ key: state.key(), message, said });
  drawLines();
  drawTrip();
  toEnd();
  flush();
}

// One after another, so that what was typed first arrives first.
async function flush() {
  if (flushing) return;
  flushing = true;
  try {
    while (state.outgoing.length) {
      const { key, message, said } = state.outgoing[0];
      try {
        const taken = await api.say(state.world.session, said);
        const known = (state.chats.get(key) ?? []).find((one) => one.id === taken.id);
        if (!known) take(key, taken);
        watchSelected();
      } catch (error) {
        if (error instanceof Offline) {
          message.state = "waiting";
          setOnline(false);
          drawLines();
          clearTimeout(flushTimer);
          flushTimer = setTimeout(flush, RETRY_SECONDS * 1000);
          return;
        }
        if (error.code === "sandbox_session_unknown") {
          await open();
          continue;
        }
        message.state = "failed";
        notice(t("refused", error.message), { error: true, seconds: 6 });
        drawLines();
      }
      state.outgoing.shift();
    }
  } finally {
    flushing = false;
  }
}

function again(message) {
  const list = state.messages();
  list.splice(list.indexOf(message), 1);
  say(message.content);
}

async function sendPicture(file) {
  try {
    const { url } = await api.upload(state.world.session, file);
    say({ type: "image", url });
  } catch {
    notice(t("image_failed"), { error: true, seconds: 6 });
  }
}

// --- the journey ---

function watchSelected() {
  const latest = state.messages().findLast((one) => one.author === "buyer");
  if (latest && state.selected === latest.id) watchJourney();
}

// Reads the selected message's journey until nothing more happens to it.
async function watchJourney() {
  const turn = ++watching;
  const id = state.selected;
  if (!id || id.startsWith("local-")) return;
  const begun = Date.now();
  while (turn === watching && state.selected === id) {
    let journey;
    try {
      journey = await api.journey(state.world.session, id);
    } catch (error) {
      if (turn !== watching) return;
      if (!(error instanceof Offline)) { notice(`${t("trip_failed")}。${t("failed_why", error.message)}`, { error: true, seconds: 8 }); return; }
      await new Promise((done) => setTimeout(done, RETRY_SECONDS * 1000));
      continue;
    }
    if (turn !== watching || state.selected !== id) return;
    show(journey);
    const waited = Date.now() - begun;
    if (journey.settled || waited > 10 * 60e3) return;
    await new Promise((done) => setTimeout(done, waited < 2000 ? 120 : waited < LIVE_MS ? 400 : 3000));
  }
}

function show(journey) {
  const changed = JSON.stringify(journey) !== JSON.stringify(state.journey);
  state.journey = journey;
  state.owners.set(state.key(), journey.state);
  const handed = journey.stages.find((one) => one.kind === "decided")?.escalation;
  if (handed) state.handed.set(journey.message_id, handed);
  if (!changed) return;
  drawTrip();
  drawLines();
}

async function copyIds() {
  const ids = [`message_id ${state.journey.message_id}`, `webhook_id ${state.journey.webhook_id}`];
  for (const one of state.journey.stages) {
    if (one.inbox_id) ids.push(`inbox ${one.inbox_id}`);
    if (one.trace_id && one.trace_id !== one.inbox_id) ids.push(`trace ${one.trace_id}`);
    if (one.decision_id) ids.push(`decision ${one.decision_id}`);
    if (one.key && one.number === 1) ids.push(`reply ${one.key}`);
  }
  const label = $("copy").querySelector("span");
  try {
    await navigator.clipboard.writeText(ids.join("\n"));
    label.textContent = t("copied");
  } catch {
    label.textContent = t("copy_failed");
  }
  $("said").textContent = label.textContent;
  setTimeout(() => { label.textContent = t("copy"); }, 2000);
}

// --- wiring up ---

function showPart(name) {
  document.querySelector(".body").dataset.shown = name;
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const chosen = tab.getAttribute("aria-controls") === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
  }
  if (name === "chat") toEnd();
}

function wire() {
  for (const svg of document.querySelectorAll("svg[data-i]")) shape(svg, svg.dataset.i);
  $("buyer").onchange = (event) => {
    state.buyer = event.target.value;
    state.tier = state.world.buyers.find((one) => one.key === state.buyer).tier;
    switchSeat();
  };
  $("tier").onchange = (event) => { state.tier = event.target.value; };
  $("shop").onchange = (event) => { state.account = event.target.value; switchSeat(); };
  $("new-order").onclick = async () => {
    try {
      const order = await api.order(state.world.session, { account_id: state.account, buyer: state.buyer });
      state.orders().unshift(order);
      chooseOrder(order.order_id);
      $("orders").scrollTop = 0;
    } catch (error) {
      notice(t("refused", error.message), { error: true, seconds: 6 });
    }
  };
  for (const box of document.querySelectorAll(".troubles input")) {
    box.onchange = async () => {
      state.world.troubles[box.name] = box.checked;
      try {
        state.world.troubles = await api.troubles(state.world.session, state.world.troubles);
      } catch (error) {
        state.world.troubles[box.name] = !box.checked;
        notice(t("refused", error.message), { error: true, seconds: 6 });
      }
      drawTroubles(state);
    };
  }
  $("form").onsubmit = (event) => {
    event.preventDefault();
    const text = $("say").value;
    if (!text.trim() || !state.world) return;
    $("say").value = "";
    say({ type: "text", text });
  };
  // Enter ends an input method's composition; it must not send.
  $("say").onkeydown = (event) => { if (event.key === "Enter" && event.isComposing) event.preventDefault(); };
  $("picture").onclick = () => $("file").click();
  $("file").onchange = (event) => { if (event.target.files[0]) sendPicture(event.target.files[0]); event.target.value = ""; };
  $("copy").onclick = copyIds;
  $("restart").onclick = () => { state.outgoing = []; open({ fresh: true, told: t("cleared") }); };
  $("language").onclick = () => {
    setLanguage(currentLanguage() === "en" ? "zh" : "en");
    localStorage.setItem("huoji-language", currentLanguage());
    drawAll();
  };
  const tabs = [...document.querySelectorAll("[role=tab]")];
  for (const [place, tab] of tabs.entries()) {
    tab.onclick = () => showPart(tab.getAttribute("aria-controls"));
    tab.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(place + step + tabs.length) % tabs.length];
      next.click();
      next.focus();
    };
  }
  addEventListener("online", () => flush());
  // Pictures grow when they arrive; "load" doesn't bubble, but can be caught on its way down.
  $("lines").addEventListener("load", toEnd, true);
}

setLanguage(new URLSearchParams(location.search).get("lang") ?? localStorage.getItem("huoji-language") ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
wire();
translate();
$("trip-body").replaceChildren(drawSkeleton());
open();
