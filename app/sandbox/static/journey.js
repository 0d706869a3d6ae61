// The journey panel: draws what became of one message.

import { el, icon } from "./dom.js";
import { currentLanguage, named, reason, span, t } from "./texts.js";

const step = (at, look, glyph, title, tags, ...body) =>
  el("li", el("span.at", at), el(`span.dot${look ? `.${look}` : ""}`, icon(glyph)), el("div.what", el("h3", title, ...tags), ...body));

function shares(journey) {
  const parts = [
    ["wait", journey.shares?.waiting_ms ?? 0, "share_wait"],
    ["work", journey.shares?.processing_ms ?? 0, "share_work"],
    ["sent", journey.shares?.sending_ms ?? 0, "share_sent"],
  ];
  if (!parts.some(([, ms]) => ms > 0)) return null;
  const legend = parts.map(([look, ms, key]) => el("span", el(`i.${look}`), t(key, span(ms))));
  const lane = el("div.lane", { "aria-hidden": "true" });
  for (const [look, ms] of parts) {
    if (ms <= 0) continue;
    const part = el(`span.${look}`);
    part.style.flexGrow = String(ms);
    lane.append(part);
  }
  return el("div.shares", lane, el("div.legend", legend));
}

function scores(match, answerAt) {
  const rows = match.ranked.map((one, place) => {
    const low = place === 0 ? "" : ".low";
    const fill = el("i"), line = el("u");
    fill.style.width = `${Math.round(Math.min(1, one.score) * 100)}%`;
    line.style.left = `${Math.round(answerAt * 100)}%`;
    return [
      el(place === 0 ? "b" : "span.low", { title: `${one.title}（${one.entry_id}）` }, one.title),
      el(`span.bar${low}`, { "aria-hidden": "true" }, fill, line),
      el(place === 0 ? "b.n" : "span.n.low", one.score.toFixed(2)),
    ];
  });
  return el("div.scores", rows.flat());
}

function understood(stage, at, answerAt) {
  const several = stage.matches.length > 1;
  const looks = { answer: "green", ask: "amber", unknown: "red" };
  const body = stage.matches.map((match, place) => [
    several && el("p.small", t("question", place + 1), " ", el("q", { dir: "auto" }, match.text)),
    match.ranked.length ? scores(match, answerAt) : el("p", t("nothing_near")),
    place === stage.matches.length - 1 && el("p.line-note", t("line", answerAt.toFixed(2))),
  ]).flat();
  const tags = stage.matches.map((match) =>
    el(`span.tag.${looks[match.band] ?? "mute"}`, match.ranked.length ? `${match.ranked[0].title} ${match.confidence.toFixed(2)}` : named("band", match.band)));
  return step(at, "", "search", t("understood"), [...tags, el("span.dim", t("micros", stage.micros))], ...body);
}

function fact(key, ...value) { return el("span", el("b", t(key)), " ", ...value); }

function decided(stage, at, links, orderName) {
  const handed = stage.escalation;
  const look = handed ? "amber" : stage.decision === "ask" ? "" : stage.decision === "silent" ? "mute" : "green";
  const glyph = handed ? "person" : stage.decision === "ask" ? "ask" : "check";
  const facts = el("div.facts",
    stage.order_id && fact("fact_order", orderName(stage.order_id)),
    stage.applied.length > 0 && fact("fact_answer", stage.applied.map((one) => one.title).join(" + "), " ", el("span.mono", stage.nodes.join(" "))),
    stage.applied.length === 0 && stage.nodes.length > 0 && fact("fact_answer", el("span.mono", stage.nodes.join(" "))),
    stage.rule && stage.rule !== "entry" && fact("fact_rule", stage.rule),
    stage.why.filter((code) => code !== stage.rule).length > 0 && fact("fact_why", stage.why.filter((code) => code !== stage.rule).map(reason).join("、")),
    stage.case && fact("fact_case", el("span.mono", stage.case)),
    fact("fact_version", `v${stage.knowledge_version}`));
  return step(at, look, glyph, t("decided", named("decision", stage.decision)), [handed && el("span.tag.amber", reason(handed.reason))], facts,
    handed && el("div.hand",
      el("p", t("hand_text", named("group", handed.group), named("priority", handed.priority)), " ", handed.state && t(`hand_${handed.state === "open" || handed.state === "accepted" ? handed.state : "closed"}`)),
      el("a", { href: links.agents_url ?? `${links.docs_url}${currentLanguage() === "en" ? "#en" : ""}`, target: "_blank", rel: "noopener" }, links.agents_url ? t("console") : t("hand_link"))));
}

function attempt(stage, at) {
  const good = stage.outcome === "delivered";
  const words = {
    delivered: t("att_delivered"), pause_account: t("att_pause"), unknown: t("att_silent"),
  }[stage.outcome] ?? (stage.status ? t("att_status", stage.status) : t("att_unreachable"));
  const look = good ? "" : stage.outcome === "failed" || stage.outcome === "pause_account" ? "red" : "amber";
  const wait = stage.next_at_ms === null ? null : stage.next_at_ms - stage.at_ms - stage.duration_ms;
  const text = good
    ? stage.duration_ms >= 1000 && t("att_took", span(stage.duration_ms))
    : wait !== null && (wait > 5 ? t("att_retry", span(wait)) : t("att_soon"));
  return step(at, look, "send", t("attempt", stage.number), [el(`span.tag.${good ? "green" : look}`, words)],
    text && el("p", text, " ", !good && el("span.mono.dim", stage.key)));
}

export function drawJourney(journey, links, orderName) {
  const at = (stage) => (stage.at_ms - journey.begun_ms <= 0 ? "+0" : `+${span(stage.at_ms - journey.begun_ms)}`);
  const draw = {
    held: (one) => step(at(one), "mute", "hold", t("held"), [], el("p", t("held_text"))),
    push_failed: (one) => step(at(one), "amber", "cross", t("push_failed"), [el("span.tag.amber", one.status ? `HTTP ${one.status}` : t("no_answer"))],
      el("p", t("push_failed_text", one.status ? `HTTP ${one.status}` : t("no_answer")))),
    received: (one) => step(at(one), "", "plug", t("received"), [el("span.tag", t("verified"))],
      el("p", one.ack_ms !== undefined && t("received_text", span(one.ack_ms)), " ",
        ["rejected", "ignored", "parked"].includes(one.state) && t("received_odd", one.reason ?? one.state),
        el("span.mono.dim", `${one.message_id} · ${journey.webhook_id}`))),
    duplicate: (one) => step(at(one), "mute", "copy", t("duplicate"), [el("span.tag", t("ignored"))], el("p", t("duplicate_text"))),
    burst: (one) => step(at(one), "", "clock", t("burst"), one.texts.length > 1 ? [el("span.tag", t("merged", one.texts.length))] : [],
      one.texts.length > 1
        ? el("p", one.texts.map((text, place) => [place > 0 && " + ", el("q", { dir: "auto" }, text)]).flat(), " ", t("burst_text", span(one.quiet_ms)))
        : el("p", t("burst_one", span(one.quiet_ms)))),
    understood: (one) => understood(one, at(one), journey.answer_at),
    decided: (one) => decided(one, at(one), links, orderName),
    attempt: (one) => attempt(one, at(one)),
    dropped: (one) => step(at(one), "mute", "cross", t("dropped"), [], el("p", t("dropped_text"))),
    confirmed: (one) => step(at(one), "green", "checks", t("confirmed"), [el("span.tag.green", t("seen"))], el("p", t("confirmed_text"))),
  };
  const rows = journey.stages.filter((one) => one.kind in draw).map((one) => draw[one.kind](one));
  return [shares(journey), el("ol.steps", rows)].filter(Boolean);
}

export function journeyResult(journey) {
  const wentOut = journey.stages.some((one) => one.kind === "attempt");
  if (journey.push_state === "failed") return ["red", t("undelivered")];
  if (journey.delivered > 0) return ["green", t("done_once", span(journey.total_ms), journey.delivered)];
  if (!journey.settled) return ["", t("running")];
  return wentOut ? ["red", t("undelivered")] : ["", t("no_reply")];
}

export const drawBlank = () =>
  el("div.blank", el("h3", t("trip_empty_title")), el("p", t("trip_empty")),
    el("ol", ["received", "burst", "understood"].map((key) => el("li.tag", t(key))), el("li.tag", t("attempt", 1)), el("li.tag", t("confirmed"))));

export const drawSkeleton = () => {
  const node = el("div.skeleton", { "aria-hidden": "true" });
  for (const width of [90, 55, 75, 60, 80]) {
    const bar = el("span");
    bar.style.width = `${width}%`;
    node.append(bar);
  }
  return node;
};
