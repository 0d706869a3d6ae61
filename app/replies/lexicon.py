"""What a message says by itself, with any knowledge or none: threats, harm, insults, a wish for a human, and so on.

Each detector reads one raw text and looks for a meaning, not for a word: 报警 is a threat and 报警器 is a product,
会过敏吗 asks and 用了过敏 reports. One combined pattern of their key words is tried first, since nearly every message
has none of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from functools import lru_cache

__all__ = [
    "angry_emoji",
    "asks_for_human",
    "asks_for_others_data",
    "injection_spans",
    "is_affirmation",
    "is_emoji_only",
    "is_insult",
    "is_threat",
    "media_mark",
    "quantity",
    "reports_injury",
    "signals",
]

_CLAUSES = re.compile(r"[，,。.!！?？;；~～\s、…]+")

_SIGNAL_WORDS: Mapping[str, str] = {
    "E1": "12315 工商 市监 市场 监管 质监 消协 消费者 律师 起诉 诉讼 法院 法庭 官司 报警 报案 派出 公安 曝光 媒体 记者 电视 抖音 小红 微博 视频号 "
    "快手 b站 网上 朋友 告你 告死 告到 告上 去告 法律 sue lawyer attorney court police expose lawsuit",
    "E2": "过敏 疹 红肿 烂脸 脸烂 烫 烧伤 灼伤 爆炸 炸了 炸伤 着火 起火 冒烟 自燃 中毒 肚子 上吐 吐 医院 急诊 住院 住了 吞 误食 触电 漏电 电到 被电 "
    "割伤 割破 划伤 划破 流血 出血 受伤 毁容 晕倒 不舒 噎 allerg rash burn injur hurt hospital poison swallow explod fire bleed",
    "E3": "人工 真人 活人 客服 换个 换一 换人 找个 找人 个人 机器 人来 转接 human agent person representative operator one someone people staff",
    "E4": "垃圾 骗子 骗钱 坑人 坑爹 黑店 黑心 奸商 无良 不要 无耻 缺德 滚 傻 煞笔 沙比 沙逼 妈 草泥 操你 去死 脑残 智障 神经 有病 畜生 狗 放屁 王八 混蛋 废物 "
    "恶心 气死 么破 么烂 么鬼 破店 烂店 流氓 sb tmd cnm nmsl mmp fuck shit bullshit bitch asshole idiot stupid scam moron trash garbage "
    "😡 🤬 💢 👿 😠 [发 [怒 [愤 [生 [抓 [咒",
    "E10": "别人 他人 其他 别的 前女 前男 前妻 前夫 邻居 闺蜜 同学 同事 某某 某个 那个 这个 个人 谁 他的 她的 ta 他地 她地 他电 她电 他手 她手 他联 她联 他订 她订 "
    "他快 她快 他购 她购 他买 她买 买家 有哪 有什 his her another other someone what who",
    "E11": "忽略 无视 忘记 忘掉 跳过 系统 提示 管理 开发 越狱 扮演 假装 内部 配置 参数 密钥 密码 数据 源代 后台 现在 模式 api token prompt ignore disregard forget jailbreak reveal developer you",
}
"""By rule: words of which every text that its detector below hears holds one, at least its first two characters."""

_SIGNALS: dict[str, dict[str, set[str]]] = {}
for _rule, _words in _SIGNAL_WORDS.items():
    for _word in _words.split():
        _SIGNALS.setdefault(_word[0], {}).setdefault(_word[:2], set()).add(_rule)
_FIRST_CHARS = frozenset(_SIGNALS)


def signals(text: str) -> Set[str]:
    """Return the rules whose detectors below could have something to say about a text; the others can be skipped.

    Looking for the first two characters of the signal words is many times faster than the patterns themselves.
    """
    low = text.lower()
    rules: set[str] = set()
    for char in _FIRST_CHARS.intersection(low):
        for sign, of_rules in _SIGNALS[char].items():
            if sign in low:
                rules |= of_rules
    return rules


# E1 ------------------------------------------------------------------------------------------------------------

_NOT = r"(?<!不会)(?<!不想)(?<!不用)(?<!不是)(?<!没有)(?<!不去)(?<!不打算)"
_THREAT = re.compile(
    rf"{_NOT}(?:(?<!\d)12315(?!\d)"
    r"|工商(?:局|所|部门|总局|投诉|举报|那边)|(?:找|去|打|告|到|向)工商(?!银行|银|大学|学院|卡|户)"
    r"|市监局|市监所|市场监[管督]|监管(?:局|部门)|质监局|消协|消费者协会"
    r"|律师函|(?:找|请|叫|问|咨询|我的|我们|让|发)(?:个|了|的)?律师|律师(?:见|来|联系|找你|处理|跟你|和你|会)"
    r"|起诉|诉讼|打官司|(?:法院|法庭)(?:见|起诉|传票|告)|(?:上|去|到|告到|告上)(?:法院|法庭)(?!旁|门口|附近|对面|路|上班)"
    r"|报警(?!器|功能|声|灯|系统|装置|音|提示|灵敏|主机|设备|探)|报案|(?:去|找|打)(?:派出所|公安)"
    r"|(?<!过度)(?<!双重)(?<!长)(?<!自动)曝光(?!度|时间|补偿|率|值|量|表|过|不足|模式|参数|好)"
    r"|(?:找|联系|告诉|发给|捅给|让|叫|请)(?:个|了|的)?(?:媒体|记者|电视台)|(?<![多流新])媒体(?:曝光|记者|见)|记者(?:朋友|曝光|来|和|跟)"
    r"|(?:走|通过|用|拿起|诉诸)法律(?:途径|程序|手段|武器)?|法律(?:途径|程序|手段|武器)"
    r"|告(?:死)?你们?(?:公司|店|家)?(?:去|的|$)|去告|告到.{0,6}(?:为止|底)"
    r"|\b(?:i(?:'ll| will| am going to|'m going to| shall)? )?sue (?:you|your)\b|will sue\b|\b(?:my |a )?(?:lawyer|attorney)\b"
    r"|see you in court|take (?:you|this) to court|lawsuit|call(?:ing)? the police|expose you)",
    re.IGNORECASE,
)
_BROADCAST = re.compile(
    r"(?:发|放|传|挂|捅|弄|爆)(?:到|上|去|在|个)*(?:抖音|小红书|微博|网上|朋友圈|视频号|快手|b站)|(?:上|去)(?:抖音|小红书|微博)(?:发|曝|说|避雷|骂|挂)",
    re.IGNORECASE,
)
_FRIENDLY_POST = re.compile(
    r"看到|刷到|看见|推荐|晒|种草|好评|夸|分享|买的|同款|直播|下单|优惠|活动|链接|怎么发|能发|可以发"
)
_LAWYER_IS_ME = re.compile(r"(?:送|给)(?:个|我的?)?律师(?:朋友)?(?:穿|用|买|礼物)")


def is_threat(text: str) -> bool:
    """Whether a text threatens with authorities, law, press or the public (rule E1)."""
    for clause in _CLAUSES.split(text):
        if _BROADCAST.search(clause) and not _FRIENDLY_POST.search(clause):
            return True
    return _THREAT.search(text) is not None and _LAWYER_IS_ME.search(text) is None


# E2 ------------------------------------------------------------------------------------------------------------

_HARM = re.compile(
    r"过敏|(?:起|出|长)(?:了)?(?:好?多|很多|一身|一脸|全身|满脸|满身)?(?:红)?疹|疹子|红肿|烂脸|脸烂|烫伤|烧伤|灼伤|烫到|烫坏|爆炸|炸了|炸伤|着火|起火|冒烟|自燃"
    r"|中毒|吃坏(?:了)?肚子|拉肚子|肚子疼|肚子痛|上吐下泻|呕吐|吐了|(?:送|进|去|上|住)(?:了|过)?(?:趟|医)?(?:医院|急诊)|急诊|住院了|住了院|(?:害|搞|弄|导致|吃|用)[^，]{0,6}住院|误吞|吞了|吞下|吞进|吞食|误食"
    r"|触电|漏电|电到(?:我|人|手|孩)|被电|割伤|划伤(?:了)?(?:手|脸|我|孩|腿|皮)|割破(?:了)?(?:手|脸|我|孩|腿|皮)|划破(?:了)?(?:手|脸|我|孩|腿|皮)|流血|出血|受伤|毁容|晕倒"
    r"|(?:吃|喝|涂|擦|抹|敷)(?:了|完|过|后|之后|以后)?.{0,6}不舒服|(?:孩子|宝宝|小孩|老人).{0,8}(?:不舒服|吞|噎)"
    r"|allergic reaction|got a rash|have a rash|a rash\b|(?:got|was|were|been) (?:burn|injur|hurt|poison)|burned my|burnt my|in (?:the )?hospital|to (?:the )?hospital"
    r"|swallowed|exploded|caught fire|on fire\b|food poisoning|bleeding",
    re.IGNORECASE,
)
_ONLY_ASKS = re.compile(
    r"会不会|会.{0,8}[吗么不嘛吧]|容易|怕|担心|防过敏|抗过敏|防|抗|不会|没有?(?:过敏|起|中毒|漏电|受伤)|不过敏|过敏体质|过敏性|易过敏|过敏(?:肌|皮|源|原|史|人群|鼻炎)|有没有"
    r"|如果|万一|要是|假如|能[用吃穿喝戴]|可以[用吃穿喝戴]|是否|好吃到|好看到|漂亮到|心态|医院(?:附近|旁|门口|里面|上班|地址|工作|收|宿舍|对面)"
    r"|(?:送|寄|发)(?:到|去|货到|往)(?:.{0,12})医院|防漏电|漏电保护|保护|吗$|么$|will it|does it|can it|could it|if ",
    re.IGNORECASE,
)


def reports_injury(text: str) -> bool:
    """Whether a text says that somebody was harmed or something is on fire (rule E2); a question before use isn't one."""
    return any(_HARM.search(clause) and not _ONLY_ASKS.search(clause) for clause in _split_softly(text))


# E3 ------------------------------------------------------------------------------------------------------------

_HUMAN = re.compile(
    r"转(?:接|到|成|个|一下|下)?(?:人工|客服|真人)|转人工|(?:找|要|接|叫|换|来|有没有|有|给我|呼叫|联系|请|上|切换?|连接)(?:个|一个|一下|下|到|你们)?(?:的)?(?:人工|真人|活人)"
    r"|^(?:我要)?(?:人工|真人|活人)(?:客服|服务)?(?:呢|在吗|在哪|有吗|来|吧|谢谢|啊|呀)?$|人工(?:客服|服务|处理|接待|回复|解答|受理)|(?:找|叫|要|联系|转|呼叫|请)(?:一下|下|个|你们|你们的|真的)?客服"
    r"|换(?:一)?个?人(?:来|说|聊|跟我|和我|回|处理)|(?:别|不要|不想)(?:再)?(?:跟|和|用|让)?机器人|(?:我要|想|给我)找个?人(?:说|聊|处理|问|解决)?$|叫(?:个)?人来|人来(?:处理|回答)"
    r"|\b(?:talk|speak|chat) (?:to|with) (?:a |an |some ?|your )?(?:real |live |actual )?(?:human|person|agent|one|representative|operator|people|someone|staff)|\b(?:real|live|actual) (?:person|human|agent)\b"
    r"|\bhuman (?:agent|support|please|help|service)\b|^human[.! ]*$|customer service (?:rep|agent|representative)|(?:want|need|get me|give me) (?:a|an) (?:human|agent|person|operator)",
    re.IGNORECASE,
)
_NOT_HUMAN = re.compile(
    r"人工(?:费|智能|合成|草|皮|鱼饵|泪|授粉|湖|成本|培育|钻|降|呼吸|心脏|关节|养殖|制作|种植|气|缝|打磨|晶体|耳蜗|宝石|水晶)|(?:纯|手工|全)人工|是(?:不是)?人工(?:还是|吗|么|不|回|的)?|还是人工|人工还是"
    r"|人工.{0,6}(?:几点|什么时候|多久|上班|下班|在线时间)|真人(?:秀|实拍|模特|图|上身|试穿|发|版|照|cs|假发|穿|展示|拍)"
    r"|(?:是|不是|是不是)(?:个)?真人|还是真人|真人还是|(?:申请|平台|小二|官方|淘宝|京东|拼多多|抖音).{0,3}客服(?:介入|处理)?|客服介入|(?:找|问|联系)(?:过|了)(?:你们)?(?:的)?(?:人工)?客服|找客服.{0,4}过|(?:再|之后|以后|到时|第一次|上次|刚才|昨天|之前|已经|不是).{0,6}(?:联系|找|问)(?:你们|一下)?的?(?:人工)?客服|客服(?:就行|就好|就可以)"
    r"|(?:不用|别|不要|不需要|无需|不想|没必要)(?:再)?(?:给我)?(?:转|找|换)?(?:人工|客服)|怎么(?:是)?人工|are you (?:a )?(?:human|real|bot)|human or|bot or|is this (?:a )?(?:human|real)",
    re.IGNORECASE,
)


def asks_for_human(text: str) -> bool:
    """Whether a text asks to talk to a person (rule E3)."""
    return any(_HUMAN.search(clause) and not _NOT_HUMAN.search(clause) for clause in _split_softly(text))


# English sentences need their spaces; Chinese buyers use a space as a comma.
_SOFT_BREAKS = re.compile(r"[，,。.!！?？;；~～\n、…]+|(?<=[\u4e00-\u9fff])\s+|\s+(?=[\u4e00-\u9fff])")


@lru_cache(maxsize=16)
def _split_softly(text: str) -> tuple[str, ...]:
    """Return a text's clauses; kept while the detectors read the same text one after the other."""
    return tuple(clause for clause in _SOFT_BREAKS.split(text.strip()) if clause)


# E4 ------------------------------------------------------------------------------------------------------------

_INSULT = re.compile(
    r"垃圾(?!桶|袋|分类|处理|箱|车|篓|短信|铲|筐|站|房|斗)|(?<!是不是)(?<!不是)(?<!会是)(?<!别是)(?<!遇到)(?<!碰到)骗子(?!吧|吗|多)|骗钱的?|坑人|坑爹|黑店|黑心(?!棉)|奸商|无良|不要脸|无耻|缺德"
    r"|(?<![翻打摇])滚(?:蛋|开|出去|犊子|远点|吧$|$|[!！。,，~])|傻[逼比bBＢ叉X]|煞笔|沙[比逼]|(?:你|他|她|去)妈(?:逼|了个|$)|(?:你|他|去)妈的(?!生日|礼物|衣服|手机|订单|号|地址)|^妈的(?!生日|礼物|衣服|手机|订单|号|地址)|草泥马|操你|去死(?!皮)|脑残|智障(?!碍)|神经病|(?:你们?|都|是)?有病(?:吧|啊|是)|畜生"
    r"|狗(?:屁|日的|东西|店|商家|客服)|放屁|王八|混蛋|废物(?!利用)|(?:太|真|好|很)恶心|恶心(?:死|透|人|我了)|气死(?:我|人|了)|什么(?:破|烂|鬼|狗屁)(?:店|东西|玩意|客服|服务|质量|快递|态度|公司|商家)|(?:破|烂)店|流氓"
    r"|(?<![a-z])(?:sb|tmd|cnm|nmsl|mmp)(?![a-z])"
    r"|\b(?:fuck|fucking|shit|bullshit|bitch|asshole|idiots?|stupid|scammers?|scam|moron)\b|\b(?:garbage|trash) (?:shop|store|service|company)\b",
    re.IGNORECASE,
)
_MILD = re.compile(r"抢|秒杀|手速|没买到|吃了|孕|反胃|干垃圾|湿垃圾|厨余")
_ANGRY_EMOJI = re.compile(r"😡|🤬|💢|👿|😠|\[(?:发怒|愤怒|怒|怒火|生气|抓狂|咒骂)\]")


def is_insult(text: str) -> bool:
    """Whether a text insults or is plain anger (rule E4)."""
    if angry_emoji(text) >= 3:
        return True
    return any(_INSULT.search(clause) and not _MILD.search(clause) for clause in _split_softly(text))


def angry_emoji(text: str) -> int:
    """Count angry faces, as emoji or as marks like [发怒]."""
    return len(_ANGRY_EMOJI.findall(text))


# E10 -----------------------------------------------------------------------------------------------------------

_WHO = r"(?:别人|他人|其他买家|其他人|别的买家|其他顾客|前女友|前男友|前妻|前夫|邻居|闺蜜|同学|同事|某某|那个人|这个人|买家|某个人)"
_WHAT = r"(?:地址|住址|住哪|电话|手机号|联系方式|号码|订单|收货信息|个人信息|信息|姓名|真名|资料|购买记录|买了(?:什么|啥)|买过(?:什么|啥)|微信)"
_PRIVACY = re.compile(
    rf"{_WHO}的?.{{0,4}}{_WHAT}|(?:查|看|告诉我|给我|发我).{{0,6}}(?:他|她|TA)的?(?:地址|电话|手机号?|联系方式|订单|快递|购买记录|买了)"
    r"|(?:他|她|TA)的?(?:地址|电话|手机号?|联系方式)(?:给我|告诉我|发我|发给我|是多少|是什么|多少)|谁(?:买过|买了|还买|下的?单|购买)|有(?:哪些|什么)人买"
    r"|\b(?:his|her|another|other|someone else'?s?) (?:buyer'?s?|customer'?s?|person'?s?)? ?(?:address|phone|order|number)\b|what (?:did )?(?:he|she) (?:bought|buy|order)|who (?:else )?(?:bought|ordered)",
    re.IGNORECASE,
)
_OWN_BUSINESS = re.compile(
    r"寄|送|改|写|填|换|错|签|拿走|代收|发到|发给(?:我)?(?:朋友|同事|同学|邻居)|收到|买家秀|买家(?:图|评|反馈|说)|怎么样|好用|好不好|效果|评价|反馈|觉得|打进来|打过来|打给我|来电|没接|没看到|没有看到|帮(?:同事|同学|朋友|邻居|别人)买|给(?:同事|同学|邻居|别人)买|卖家|要求"
)


def asks_for_others_data(text: str) -> bool:
    """Whether a text asks for another person's address, orders or the like (rule E10)."""
    return any(_PRIVACY.search(clause) and not _OWN_BUSINESS.search(clause) for clause in _split_softly(text))


# E11 -----------------------------------------------------------------------------------------------------------

_INJECTION = re.compile(
    r"(?:请)?(?:忽略|无视|忘记|忘掉|跳过)(?:掉|你)?(?:以上|之前|前面|上面|此前|所有|全部|一切)?的?(?:所有|全部)?的?(?:系统)?(?:指令|提示词?|规则|设定|限制|对话|命令)"
    r"|系统提示词|(?:把|输出|发|显示|打印|告诉我|重复|复述|泄露|公开|给我看)(?:一下|出|下)?(?:你|你的|你们)?的?(?:系统)?(?:提示词|系统提示|内部指令|初始指令|prompt)"
    r"|(?:你现在|从现在起|从现在开始|现在开始)(?:，|,)?(?:你)?(?:就)?是(?:一个|一名|个)?(?:管理员|开发者|黑客|超级用户|root|没有限制|不受限制|dan)"
    r"|(?:以|进入|开启|切换到?|启用)(?:开发者|管理员|调试|越狱|上帝|debug|dan)模式|越狱模式|jailbreak"
    r"|(?:输出|显示|打印|告诉我|发出|给我|列出|导出)(?:你|你们|系统|后台)的?(?:后台|系统|内部|全部)?的?(?:配置|参数|密钥|密码|数据库|源代码|api ?key|token)|你的(?:系统)?(?:配置|密钥|api ?key|提示词)(?:是|发|给)"
    r"|(?:假装|扮演)(?:你|成)?(?:是)?(?:一个|一名)?(?:管理员|开发者|老板|黑客|没有限制)"
    r"|(?:ignore|disregard|forget) (?:all |any |the |your |my )*(?:previous|above|prior|earlier|system|preceding) ?(?:instructions?|prompts?|rules?|messages?)?"
    r"|(?:reveal|show|print|output|repeat|tell me) (?:me )?(?:your |the )?(?:system |initial |hidden )?(?:prompt|instructions|configuration|api ?keys?|settings)|developer mode|you are now (?:a |an |the )?(?:admin|developer|dan)",
    re.IGNORECASE,
)


def injection_spans(text: str) -> tuple[tuple[int, int], ...]:
    """Return where in a text somebody tries to command the assistant (rule E11), as (start, end) positions."""
    return tuple(match.span() for match in _INJECTION.finditer(text))


# Small signs ---------------------------------------------------------------------------------------------------

_MARKS = re.compile(
    r"^\s*[\[【(（<](图片|照片|语音|视频|小视频|动画表情|文件|image|voice|video)[^\]】)）>]{0,12}[\]】)）>]\s*$",
    re.IGNORECASE,
)
# A mark that ends in x stands for a masked value, not for a face.
_FACE_MARK = re.compile(r"[\[【][\u4e00-\u9fffA-Za-z]{1,5}(?<!x)[\]】]|/:[^\s]{1,3}|:\)|:-\)|\^_\^|\^\^")
_EMOJI = re.compile(
    "[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u2300-\u23ff\u2190-\u21ff\u3030\u303d\u3297\u3299\u200d\ufe0f\u20e3\U000e0020-\U000e007f]"
)
_AFFIRM = re.compile(
    r"^(?:是+的?|对+的?|没错|就是(?:这个|它)?|嗯+|恩+|对对|是这个|yes|yeah|yep|right|correct)[的了呢哈啊呀吧~～。.!！ ]*$",
    re.IGNORECASE,
)
_QUANTITY = re.compile(
    r"(\d{1,6})\s*(?:件|个|双|套|条|箱|盒|瓶|包|只|台|本|份|支|根|片|袋|罐|桶|提|pcs|pieces|units)",
    re.IGNORECASE,
)


def media_mark(text: str) -> str | None:
    """Return ``image``, ``voice``, ``video`` or ``other`` for a text that only stands for one, like '[图片]'."""
    match = _MARKS.match(text)
    if match is None:
        return None
    word = match.group(1).lower()
    if word in ("图片", "照片", "image"):
        return "image"
    if word in ("语音", "voice"):
        return "voice"
    return "video" if word in ("视频", "小视频", "video") else "other"


def is_emoji_only(text: str) -> bool:
    """Whether a text is nothing but emoji and faces like [微笑]."""
    if not text.strip() or text.strip().isalnum():
        return False
    rest = _EMOJI.sub("", _FACE_MARK.sub("", text))
    return rest != text and not rest.strip("~～!！。. \n")


def is_affirmation(text: str) -> bool:
    """Whether a text only says 'yes'."""
    return len(text) <= 12 and _AFFIRM.match(text.strip()) is not None


def quantity(text: str) -> int:
    """Return the largest number of pieces a text names, or 0."""
    return max((int(number) for number in _QUANTITY.findall(text)), default=0)
