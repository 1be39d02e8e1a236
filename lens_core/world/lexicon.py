"""The common words of the world: names, places, things, qualities; each is one token of the tokenizer."""

MALE = tuple(
    "John James Robert Michael William David Richard Joseph Thomas Charles Daniel Matthew Anthony Mark "
    "Steven Paul Andrew Joshua Kevin Brian George Edward Ronald Timothy Jason Jeffrey Ryan Jacob Gary Eric "
    "Stephen Jonathan Larry Justin Scott Brandon Frank Gregory Samuel Patrick Jack Dennis Jerry Tyler Aaron "
    "Henry Peter Adam Tom Simon Bob Ben Noah Liam Lucas Oliver Leo Max Oscar Felix Martin Victor "
    "Arthur Ivan Omar Ali Carlos Pedro Luis Kenji Raj Sam Nick Tim".split()
)
FEMALE = tuple(
    "Mary Patricia Jennifer Linda Elizabeth Barbara Susan Jessica Sarah Karen Nancy Lisa Margaret Betty "
    "Sandra Ashley Kimberly Emily Donna Michelle Carol Amanda Melissa Deborah Stephanie Rebecca Laura Sharon "
    "Cynthia Kathleen Amy Angela Anna Ruth Brenda Pamela Nicole Katherine Samantha Christine Emma Catherine "
    "Rachel Carolyn Janet Maria Heather Diane Julie Alice Olivia Sophia Mia Chloe Grace Lily Ella Zoe Clara "
    "Eva Julia Helen Jane Kate Lucy Nina Rosa Sofia Fatima Aisha Yuki Priya Ingrid Elena Hannah Claire".split()
)
NAMES = MALE + FEMALE
GENDER = {**dict.fromkeys(MALE, "m"), **dict.fromkeys(FEMALE, "f")}

PLACES = tuple(
    "store school park garden beach station hospital restaurant office library market museum church theatre "
    "farm river castle bridge harbour village kitchen forest hotel cafe stadium zoo shop cinema lake airport "
    "bakery bank gym club pool mountain house street square university party concert wedding meeting".split()
)
THINGS = tuple(
    "drink book ring kiss bone basketball computer necklace letter flower key basket ticket hat coin map apple "
    "phone camera ball box cake lamp pen toy bottle card knife guitar blanket gift present rose sandwich cookie "
    "watch bag coat pencil picture message candle umbrella scarf cup plate newspaper magazine bicycle kite "
    "balloon puppy shirt pillow spoon chocolate".split()
)
ADJECTIVES = tuple(
    "small big old new red blue green quiet happy sad tall short bright dark heavy light warm cold clever brave "
    "kind lonely proud tired hungry strange golden silver broken beautiful yellow white black tiny huge cheap "
    "expensive soft hard clean dirty empty full fresh lovely simple famous".split()
)
FEELINGS = tuple(
    "happy sad tired hungry proud lonely angry afraid surprised excited nervous calm".split()
)
ANIMALS = tuple("dog cat horse bird rabbit fox duck goat mouse sheep cow pig".split())
RELATIVES = tuple("brother sister mother father friend uncle aunt cousin neighbour teacher".split())
FOODS = tuple(
    "bread soup cheese rice fish fruit cake salad coffee tea milk honey water pizza meat".split()
)
EVENTS = tuple(
    "war festival siege reign voyage expedition dynasty strike drought famine conflict campaign project treaty "
    "marriage tour construction debate journey career".split()
)
POSITIVE = tuple(
    "wonderful great excellent lovely brilliant amazing delightful charming good fantastic".split()
)
NEGATIVE = tuple(
    "terrible awful horrible boring dreadful bad disgusting annoying poor disappointing".split()
)
REVIEWED = tuple(
    "movie book meal concert play hotel trip show song speech film game dinner party class".split()
)

DAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
MONTHS = tuple(
    "January February March April May June July August September October November December".split()
)
NUMBER_WORDS = tuple(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen".split()
)
ORDINALS = tuple("first second third fourth fifth sixth seventh eighth ninth tenth".split())

_PLURALS = "child-children man-men woman-women".split()
_NOUNS = (
    "key cabinet author guard farmer doctor teacher driver senator pilot dog cat horse bird king queen picture "
    "window table chair car boat tree house student nurse lawyer singer manager customer officer report letter "
    "boy girl friend soldier".split()
)
NOUNS = tuple((n, n + "s") for n in _NOUNS) + tuple(tuple(p.split("-")) for p in _PLURALS)
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
PREPOSITIONS = tuple("near behind beside above with under around by".split())
ALL_WORDS = tuple(
    dict.fromkeys(NAMES + PLACES + THINGS + ADJECTIVES + EVENTS + POSITIVE + NEGATIVE)
)


def an(word: str) -> str:
    """The word with its article."""
    return ("an " if word[0] in "aeiou" else "a ") + word


def pronouns(name: str, gender: dict[str, str] | None = None) -> tuple[str, str, str, str]:
    """(he, his, him, himself) for a name."""
    if (gender or GENDER)[name] == "f":
        return "she", "her", "her", "herself"
    return "he", "his", "him", "himself"
