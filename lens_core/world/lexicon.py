"""The common words of the world: names, places, things, qualities; each one token."""


def words(text: str, *, separator: str | None = None) -> tuple[str, ...]:
    """The words of a text, or its parts between separators."""
    return tuple(text.split(separator))


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Two words each from ``hot-cold big-small``."""
    return tuple((first, second) for first, _, second in (w.partition("-") for w in words(text)))


MALE = words(
    "John James Robert Michael William David Richard Joseph Thomas Charles Daniel Matthew Anthony "
    "Mark Steven Paul Andrew Joshua Kevin Brian George Edward Ronald Timothy Jason Jeffrey Ryan "
    "Jacob Gary Eric Stephen Jonathan Larry Justin Scott Brandon Frank Gregory Samuel Patrick Jack "
    "Dennis Jerry Tyler Aaron Henry Peter Adam Tom Simon Bob Ben Noah Liam Lucas Oliver Leo Max "
    "Oscar Felix Martin Victor Arthur Ivan Omar Ali Carlos Pedro Luis Kenji Raj Sam Nick Tim"
)
FEMALE = words(
    "Mary Patricia Jennifer Linda Elizabeth Barbara Susan Jessica Sarah Karen Nancy Lisa Margaret "
    "Betty Sandra Ashley Kimberly Emily Donna Michelle Carol Amanda Melissa Deborah Stephanie "
    "Rebecca Laura Sharon Cynthia Kathleen Amy Angela Anna Ruth Brenda Pamela Nicole Katherine "
    "Samantha Christine Emma Catherine Rachel Carolyn Janet Maria Heather Diane Julie Alice Olivia "
    "Sophia Mia Chloe Grace Lily Ella Zoe Clara Eva Julia Helen Jane Kate Lucy Nina Rosa Sofia "
    "Fatima Aisha Yuki Priya Ingrid Elena Hannah Claire"
)
NAMES = MALE + FEMALE
GENDER = {**dict.fromkeys(MALE, "m"), **dict.fromkeys(FEMALE, "f")}

PLACES = words(
    "store school park garden beach station hospital restaurant office library market museum "
    "church theatre farm river castle bridge harbour village kitchen forest hotel cafe stadium zoo "
    "shop cinema lake airport bakery bank gym club pool mountain house street square university "
    "party concert wedding meeting"
)
THINGS = words(
    "drink book ring kiss bone basketball computer necklace letter flower key basket ticket hat "
    "coin map apple phone camera ball box cake lamp pen toy bottle card knife guitar blanket gift "
    "present rose sandwich cookie watch bag coat pencil picture message candle umbrella scarf cup "
    "plate newspaper magazine bicycle kite balloon puppy shirt pillow spoon chocolate"
)
ADJECTIVES = words(
    "small big old new red blue green quiet happy sad tall short bright dark heavy light warm cold "
    "clever brave kind lonely proud tired hungry strange golden silver broken beautiful yellow "
    "white black tiny huge cheap expensive soft hard clean dirty empty full fresh lovely simple "
    "famous"
)
FEELINGS = words("happy sad tired hungry proud lonely angry afraid surprised excited nervous calm")
ANIMALS = words("dog cat horse bird rabbit fox duck goat mouse sheep cow pig")
RELATIVES = words("brother sister mother father friend uncle aunt cousin neighbour teacher")
FOODS = words("bread soup cheese rice fish fruit cake salad coffee tea milk honey water pizza meat")
EVENTS = words(
    "war festival siege reign voyage expedition dynasty strike drought famine conflict campaign "
    "project treaty marriage tour construction debate journey career"
)
POSITIVE = words(
    "wonderful great excellent lovely brilliant amazing delightful charming good fantastic"
)
NEGATIVE = words(
    "terrible awful horrible boring dreadful bad disgusting annoying poor disappointing"
)
REVIEWED = words(
    "movie book meal concert play hotel trip show song speech film game dinner party class"
)

DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words(
    "January February March April May June July August September October November December"
)
NUMBER_WORDS = words(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
)
ORDINALS = words("first second third fourth fifth sixth seventh eighth ninth tenth")

_IRREGULAR = pairs("child-children man-men woman-women")
_NOUNS = words(
    "key cabinet author guard farmer doctor teacher driver senator pilot dog cat horse bird king "
    "queen picture window table chair car boat tree house student nurse lawyer singer manager "
    "customer officer report letter boy girl friend soldier"
)
NOUNS = tuple((n, n + "s") for n in _NOUNS) + _IRREGULAR
VERBS = (
    ("is", "are"),
    ("was", "were"),
    ("has", "have"),
    ("runs", "run"),
    ("seems", "seem"),
    ("looks", "look"),
    ("likes", "like"),
    ("knows", "know"),
    ("needs", "need"),
    ("waits", "wait"),
    ("belongs", "belong"),
    ("stays", "stay"),
)
PREPOSITIONS = words("near behind beside above with under around by")
ALL_WORDS = tuple(
    dict.fromkeys(NAMES + PLACES + THINGS + ADJECTIVES + EVENTS + POSITIVE + NEGATIVE)
)


def article(word: str) -> str:
    """``a`` or ``an``, as fits the word."""
    return "an" if word[0].lower() in "aeiou" else "a"


def an(word: str) -> str:
    """The word with its article."""
    return f"{article(word)} {word}"


def pronouns(name: str) -> tuple[str, str, str, str]:
    """(he, his, him, himself) for a name."""
    if GENDER[name] == "f":
        return "she", "her", "her", "herself"
    return "he", "his", "him", "himself"
