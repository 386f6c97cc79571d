"""Words for the 50 classes of ESC-50: 26 are kinds of the synthesiser, 24 have their own here."""

# Class of ESC-50 -> the synthesiser's kind with the same words; other classes name their kind.
KINDS = {
    "chirping_birds": "bird", "clapping": "applause", "clock_tick": "clock", "car_horn": "horn",
    "crickets": "cricket", "crying_baby": "baby", "door_wood_knock": "knock", "glass_breaking": "glass",
    "hand_saw": "saw", "keyboard_typing": "typing", "laughing": "laugh", "snoring": "snore",
    "thunderstorm": "thunder", "vacuum_cleaner": "vacuum", "water_drops": "drip",
}  # fmt: skip

# As grammar.PHRASES: paraphrases (subject, finite verb, gerund), the most usual first.
PHRASES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "rooster": (
        ("a rooster", "crows", "crowing"), ("a cockerel", "crows", "crowing"),
        ("a rooster", "calls out", "calling out"), ("a cock", "crows", "crowing"),
    ),
    "hen": (
        ("a hen", "clucks", "clucking"), ("a chicken", "clucks", "clucking"),
        ("chickens", "squawk", "squawking"), ("hens", "cackle", "cackling"),
    ),
    "pig": (
        ("a pig", "grunts", "grunting"), ("a pig", "oinks", "oinking"), ("pigs", "squeal", "squealing"),
        ("a hog", "snorts", "snorting"),
    ),
    "sheep": (
        ("a sheep", "bleats", "bleating"), ("a sheep", "baas", "baaing"), ("a lamb", "bleats", "bleating"),
        ("lambs", "call", "calling"),
    ),
    "crow": (
        ("a crow", "caws", "cawing"), ("crows", "caw", "cawing"), ("a raven", "croaks", "croaking"),
        ("a crow", "calls", "calling"),
    ),
    "insects": (
        ("an insect", "buzzes", "buzzing"), ("a fly", "buzzes", "buzzing"), ("bees", "hum", "humming"),
        ("a mosquito", "whines", "whining"),
    ),
    "sea_waves": (
        ("waves", "crash", "crashing"), ("waves", "break on the shore", "breaking on the shore"),
        ("the sea", "roars", "roaring"), ("surf", "rolls in", "rolling in"),
    ),
    "pouring_water": (
        ("water", "pours into a glass", "pouring into a glass"), ("someone", "pours water", "pouring water"),
        ("a person", "fills a glass", "filling a glass"),
        ("liquid", "splashes into a cup", "splashing into a cup"),
    ),
    "toilet_flush": (
        ("a toilet", "flushes", "flushing"), ("someone", "flushes a toilet", "flushing a toilet"),
        ("a toilet", "gurgles", "gurgling"), ("water", "rushes down a drain", "rushing down a drain"),
    ),
    "crackling_fire": (
        ("a fire", "crackles", "crackling"), ("a fire", "burns", "burning"),
        ("flames", "crackle", "crackling"), ("logs", "pop in a fireplace", "popping in a fireplace"),
    ),
    "fireworks": (
        ("fireworks", "explode", "exploding"), ("fireworks", "go off", "going off"),
        ("firecrackers", "pop", "popping"), ("a rocket", "bursts", "bursting"),
    ),
    "sneezing": (
        ("a person", "sneezes", "sneezing"), ("someone", "sneezes", "sneezing"),
        ("somebody", "lets out a sneeze", "letting out a sneeze"),
    ),
    "coughing": (
        ("a person", "coughs", "coughing"), ("someone", "coughs", "coughing"),
        ("somebody", "clears their throat", "clearing their throat"),
    ),
    "breathing": (
        ("a person", "breathes", "breathing"), ("someone", "takes deep breaths", "taking deep breaths"),
        ("somebody", "pants", "panting"),
    ),
    "brushing_teeth": (
        ("a person", "brushes their teeth", "brushing their teeth"),
        ("someone", "brushes their teeth", "brushing their teeth"), ("a toothbrush", "scrubs", "scrubbing"),
        ("somebody", "cleans their teeth", "cleaning their teeth"),
    ),
    "drinking_sipping": (
        ("a person", "drinks", "drinking"), ("someone", "sips a drink", "sipping a drink"),
        ("somebody", "slurps", "slurping"), ("a person", "gulps", "gulping"),
    ),
    "mouse_click": (
        ("a mouse", "clicks", "clicking"), ("someone", "clicks a mouse", "clicking a mouse"),
        ("a computer mouse", "clicks", "clicking"), ("a button", "clicks", "clicking"),
    ),
    "door_wood_creaks": (
        ("a door", "creaks", "creaking"), ("a wooden door", "creaks", "creaking"),
        ("a door", "squeaks", "squeaking"), ("hinges", "squeak", "squeaking"),
    ),
    "can_opening": (
        ("someone", "opens a can", "opening a can"), ("a can", "opens", "opening"),
        ("a soda can", "pops open", "popping open"), ("a person", "cracks open a can", "cracking open a can"),
    ),
    "washing_machine": (
        ("a washing machine", "runs", "running"), ("a washing machine", "spins", "spinning"),
        ("a washer", "churns", "churning"), ("laundry", "tumbles", "tumbling"),
    ),
    "clock_alarm": (
        ("an alarm clock", "rings", "ringing"), ("an alarm clock", "beeps", "beeping"),
        ("an alarm clock", "goes off", "going off"), ("a digital clock", "beeps", "beeping"),
    ),
    "chainsaw": (
        ("a chainsaw", "runs", "running"), ("a chainsaw", "roars", "roaring"),
        ("a chainsaw", "cuts wood", "cutting wood"), ("someone", "uses a chainsaw", "using a chainsaw"),
    ),
    "church_bells": (
        ("church bells", "ring", "ringing"), ("church bells", "toll", "tolling"),
        ("a church bell", "rings", "ringing"), ("bells", "peal", "pealing"),
    ),
    "airplane": (
        ("an airplane", "flies", "flying"), ("a plane", "passes overhead", "passing overhead"),
        ("a jet", "roars past", "roaring past"), ("an airplane", "drones", "droning"),
    ),
}  # fmt: skip

# What each belongs to, as grammar.SUPERORDINATE has it.
GROUPS = {
    "animal": ("rooster", "hen", "pig", "sheep", "crow", "insects"),
    "person": ("sneezing", "coughing", "breathing", "brushing_teeth", "drinking_sipping"),
    "water": ("sea_waves", "pouring_water", "toilet_flush"),
    "machine": ("washing_machine", "clock_alarm", "chainsaw", "airplane"),
    "object": ("mouse_click", "door_wood_creaks", "can_opening", "church_bells"),
    "something": ("crackling_fire", "fireworks"),
}  # fmt: skip
