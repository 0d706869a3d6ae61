"""The sandbox's page in a real browser, against the real program."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.huoji_process import HuojiProcess

pytestmark = pytest.mark.browser

SOON = 15_000
"""Milliseconds that a busy machine may take for what is done in 50."""


@pytest.fixture
def sandbox(page: Page, demo: HuojiProcess) -> Iterator[Page]:
    """The page as a new visitor finds it; fails when it logs an error."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    open_sandbox(page, demo)
    yield page
    assert errors == []


def open_sandbox(page: Page, demo: HuojiProcess) -> None:
    page.goto(f"{demo.url}/sandbox/")
    expect(page.locator(".order")).not_to_have_count(0, timeout=SOON)


def click_chip(page: Page, text: str) -> None:
    page.locator("#chips").get_by_role("button", name=text, exact=True).click()


def say(page: Page, text: str) -> None:
    page.locator("#say").fill(text)
    page.locator("#say").press("Enter")


def replies(page: Page):
    return page.locator("#lines .msg:not(.me) .bubble")


def trouble(page: Page, name: str) -> None:
    with page.expect_response(re.compile("/troubles$")):
        page.get_by_role("switch", name=name).check()


def settled(page: Page) -> None:
    expect(page.locator("#trip-result")).to_have_class(re.compile("green"), timeout=SOON)


def test_two_clicks_give_the_trace_of_one_s_own_parcel_within_a_second(sandbox: Page):
    parcel = sandbox.locator(".order", has_text="运输中").first
    number = parcel.locator("b").inner_text()
    parcel.click()
    click_chip(sandbox, "我的快递到哪了")
    reply = replies(sandbox).first
    expect(reply).to_contain_text("转运中心", timeout=SOON)
    expect(reply).to_contain_text("单号ZT")
    expect(sandbox.locator("#lines .card")).to_contain_text(number)
    # The page's own clock, not the test's: what is measured is the program, not the browser's start.
    expect(sandbox.locator("#lines .meta", has_text="后收到")).to_have_text(re.compile(r"^\d+ 毫秒后收到$"))


def test_the_journey_tells_what_was_understood_decided_and_sent(sandbox: Page):
    click_chip(sandbox, "我的快递到哪了")
    settled(sandbox)
    steps = sandbox.locator("#trip-body .steps")
    expect(steps.locator("h3")).to_contain_text(
        ["收到推送", "理解", "决定：自动回答", "发送第 1 次", "平台回声确认"]
    )
    expect(steps.locator(".scores b").first).to_have_text("我的快递到哪了？")
    expect(steps.locator(".bar")).to_have_count(3)
    expect(steps).to_contain_text("自动回答线")
    expect(steps).to_contain_text("知识库 v1")


def test_a_complaint_goes_to_people_and_says_so(sandbox: Page):
    click_chip(sandbox, "我要投诉你们,打12315")
    expect(sandbox.locator("#lines .event")).to_contain_text("已转给人工（主管组）", timeout=SOON)
    expect(sandbox.locator(".hand")).to_contain_text("紧急")
    expect(sandbox.locator("#chat-state")).to_have_text("已转人工，等客服接待")
    with sandbox.expect_popup() as opened:
        sandbox.locator(".hand a").click()
    expect(opened.value.get_by_role("heading", name="客服怎么接待")).to_be_visible()


def test_a_message_pushed_twice_is_answered_once(sandbox: Page):
    trouble(sandbox, "同一条推两遍")
    click_chip(sandbox, "我的快递到哪了")
    expect(sandbox.locator(".steps")).to_contain_text("同一条又推了一遍", timeout=SOON)
    settled(sandbox)
    expect(replies(sandbox)).to_have_count(1)


def test_a_reply_refused_at_first_arrives_once_at_the_second_attempt(sandbox: Page):
    trouble(sandbox, "收回复时先失败一次")
    click_chip(sandbox, "我的快递到哪了")
    settled(sandbox)
    expect(sandbox.locator(".steps")).to_contain_text("平台返回 503")
    expect(sandbox.locator(".steps")).to_contain_text("发送第 2 次")
    expect(sandbox.locator("#trip-result")).to_contain_text("送达 1 条")
    expect(replies(sandbox)).to_have_count(1)


def test_two_messages_that_change_places_are_both_answered(sandbox: Page):
    trouble(sandbox, "两条顺序颠倒")
    say(sandbox, "能便宜点吗")
    expect(sandbox.locator("#lines .meta")).to_have_text("平台压着，等下一条")
    say(sandbox, "我的快递到哪了")
    expect(replies(sandbox)).to_have_count(2, timeout=SOON)
    expect(replies(sandbox).first).to_contain_text("转运中心")


def test_three_lines_in_a_row_get_one_answer(sandbox: Page):
    click_chip(sandbox, "连说三条")
    expect(sandbox.locator(".steps")).to_contain_text("合并", timeout=SOON)
    settled(sandbox)
    expect(sandbox.locator("#lines .msg.me .bubble")).to_have_count(3)


def test_what_a_buyer_writes_is_only_ever_text(sandbox: Page):
    attack = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    say(sandbox, attack)
    expect(sandbox.locator("#lines .msg.me .bubble")).to_have_text(attack)
    expect(sandbox.locator("#lines img, #lines script, #trip img")).to_have_count(0)
    expect(sandbox).to_have_title(re.compile("沙盒市场"))


def test_a_reload_keeps_the_chat_and_clearing_empties_it(sandbox: Page):
    click_chip(sandbox, "我的快递到哪了")
    expect(replies(sandbox)).to_have_count(1, timeout=SOON)
    sandbox.reload()
    expect(replies(sandbox)).to_have_count(1, timeout=SOON)
    sandbox.get_by_role("button", name="清空重来").click()
    expect(sandbox.locator("#lines")).to_contain_text("选一笔订单", timeout=SOON)
    expect(replies(sandbox)).to_have_count(0)


def test_the_page_speaks_english_too(sandbox: Page):
    sandbox.get_by_role("button", name="Switch to English").click()
    expect(sandbox.get_by_role("heading", name="Sandbox market")).to_be_visible()
    expect(sandbox.locator("html")).to_have_attribute("lang", "en")
    click_chip(sandbox, "Three in a row")
    expect(sandbox.locator(".steps")).to_contain_text("Decided", timeout=SOON)


def test_everything_works_by_keyboard(sandbox: Page):
    sandbox.keyboard.press("Tab")
    sandbox.keyboard.press("Enter")
    expect(sandbox.locator("#say")).to_be_focused()
    sandbox.keyboard.type("我的快递到哪了")
    sandbox.keyboard.press("Enter")
    expect(replies(sandbox)).to_have_count(1, timeout=SOON)
    sandbox.locator(".order :checked").press("ArrowDown")
    expect(sandbox.locator(".order :checked")).to_be_focused()


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1100, 800), (390, 844), (320, 640)])
def test_the_page_never_scrolls_as_a_whole(sandbox: Page, width: int, height: int):
    sandbox.set_viewport_size({"width": width, "height": height})
    sandbox.get_by_role("button", name="Switch to English").click()
    click_chip(sandbox, "我的快递到哪了")
    expect(replies(sandbox)).to_have_count(1, timeout=SOON)
    size = sandbox.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert size == [width, height]
    button = sandbox.locator("#restart").bounding_box()
    assert button is not None
    assert button["x"] + button["width"] <= width


def test_on_a_phone_the_parts_are_tabs_and_a_tap_opens_the_journey(sandbox: Page):
    sandbox.set_viewport_size({"width": 390, "height": 844})
    click_chip(sandbox, "我的快递到哪了")
    sandbox.locator("#lines .msg.me .bubble").click()
    expect(sandbox.get_by_role("tab", name="旅程")).to_have_attribute("aria-selected", "true")
    expect(sandbox.locator(".steps")).to_be_visible(timeout=SOON)


def test_without_a_connection_the_page_says_so_and_sends_later(page: Page, demo: HuojiProcess):
    open_sandbox(page, demo)
    page.context.set_offline(True)
    say(page, "我的快递到哪了")
    expect(page.locator("#notice")).to_contain_text("连不上服务器", timeout=SOON)
    expect(page.locator("#lines .meta")).to_have_text("等联网")
    page.context.set_offline(False)
    expect(replies(page)).to_have_count(1, timeout=30_000)
    expect(page.locator("#lines .msg.me .bubble")).to_have_count(1)
