"""Capitals of countries."""

from __future__ import annotations

import random

from models.pocket.training.dialogue import Turn, Typing
from models.pocket.training.names import draw_name
from models.pocket.training.split import Phrasings, Split

_TABLE = """
Afghanistan:Kabul|Albania:Tirana|Algeria:Algiers|Andorra:Andorra la Vella|Angola:Luanda
Argentina:Buenos Aires|Armenia:Yerevan|Australia:Canberra|Austria:Vienna|Azerbaijan:Baku
Bahrain:Manama|Bangladesh:Dhaka|Barbados:Bridgetown|Belarus:Minsk|Belgium:Brussels
Belize:Belmopan|Bhutan:Thimphu|Bosnia and Herzegovina:Sarajevo|Botswana:Gaborone|Brazil:Brasilia
Bulgaria:Sofia|Burkina Faso:Ouagadougou|Cambodia:Phnom Penh|Cameroon:Yaounde|Canada:Ottawa
Chad:N'Djamena|Chile:Santiago|China:Beijing|Colombia:Bogota|Costa Rica:San Jose|Croatia:Zagreb
Cuba:Havana|Cyprus:Nicosia|the Czech Republic:Prague|Denmark:Copenhagen|Djibouti:Djibouti
the Dominican Republic:Santo Domingo|Ecuador:Quito|Egypt:Cairo|El Salvador:San Salvador
Eritrea:Asmara|Estonia:Tallinn|Ethiopia:Addis Ababa|Fiji:Suva|Finland:Helsinki|France:Paris
Gabon:Libreville|Georgia:Tbilisi|Germany:Berlin|Ghana:Accra|Greece:Athens|Guatemala:Guatemala City
Guinea:Conakry|Guyana:Georgetown|Haiti:Port-au-Prince|Honduras:Tegucigalpa|Hungary:Budapest
Iceland:Reykjavik|India:New Delhi|Indonesia:Jakarta|Iran:Tehran|Iraq:Baghdad|Ireland:Dublin
Italy:Rome|Jamaica:Kingston|Japan:Tokyo|Jordan:Amman|Kazakhstan:Astana|Kenya:Nairobi
Kuwait:Kuwait City|Kyrgyzstan:Bishkek|Laos:Vientiane|Latvia:Riga|Lebanon:Beirut|Liberia:Monrovia
Libya:Tripoli|Liechtenstein:Vaduz|Lithuania:Vilnius|Luxembourg:Luxembourg
Madagascar:Antananarivo|Malawi:Lilongwe|Malaysia:Kuala Lumpur|Mali:Bamako|Malta:Valletta
Mauritania:Nouakchott|Mauritius:Port Louis|Mexico:Mexico City|Moldova:Chisinau|Monaco:Monaco
Mongolia:Ulaanbaatar|Montenegro:Podgorica|Morocco:Rabat|Mozambique:Maputo|Namibia:Windhoek
Nepal:Kathmandu|the Netherlands:Amsterdam|New Zealand:Wellington|Nicaragua:Managua|Niger:Niamey
Nigeria:Abuja|North Korea:Pyongyang|North Macedonia:Skopje|Norway:Oslo|Oman:Muscat
Pakistan:Islamabad|Panama:Panama City|Papua New Guinea:Port Moresby|Paraguay:Asuncion|Peru:Lima
the Philippines:Manila|Poland:Warsaw|Portugal:Lisbon|Qatar:Doha|Romania:Bucharest|Russia:Moscow
Rwanda:Kigali|San Marino:San Marino|Saudi Arabia:Riyadh|Senegal:Dakar|Serbia:Belgrade
Sierra Leone:Freetown|Singapore:Singapore|Slovakia:Bratislava|Slovenia:Ljubljana|Somalia:Mogadishu
South Korea:Seoul|Spain:Madrid|Sudan:Khartoum|Suriname:Paramaribo|Sweden:Stockholm
Switzerland:Bern|Syria:Damascus|Taiwan:Taipei|Tajikistan:Dushanbe|Tanzania:Dodoma|Thailand:Bangkok
Togo:Lome|Tunisia:Tunis|Turkey:Ankara|Turkmenistan:Ashgabat|Uganda:Kampala|Ukraine:Kyiv
the United Arab Emirates:Abu Dhabi|the United Kingdom:London|the United States:Washington
Uruguay:Montevideo|Uzbekistan:Tashkent|Venezuela:Caracas|Vietnam:Hanoi|Yemen:Sanaa|Zambia:Lusaka
Zimbabwe:Harare
"""
CAPITALS: dict[str, str] = {
    country: capital
    for country, capital in (
        entry.split(":") for entry in _TABLE.strip().replace("\n", "|").split("|")
    )
}
COUNTRIES = tuple(CAPITALS)
WORDINGS = Phrasings(
    train=(
        "What is the capital of {c}?",
        "What's the capital of {c}?",
        "Capital of {c}?",
        "Tell me the capital of {c}.",
        "Which city is the capital of {c}?",
        "Do you know the capital of {c}?",
        "Name the capital of {c}.",
        "The capital of {c}?",
        "What is the capital city of {c}?",
        "Can you tell me the capital of {c}?",
        "Give me the capital of {c}.",
        "What is {c}'s capital?",
        "{c}, what is its capital?",
        "I want to know the capital of {c}.",
        "Could you tell me what the capital of {c} is?",
        "What city is the capital of {c}?",
        "Please name the capital city of {c}.",
        "Capital city of {c}",
        "what is the name of the capital of {c}?",
        "{c} capital",
        "I am going to {c}. What is the capital?",
    ),
    held_out=(
        "Could you tell me the capital of {c}?",
        "Please tell me the capital city of {c}.",
        "Do you know what the capital of {c} is?",
        "I need the capital of {c}.",
        "Which city is {c}'s capital?",
        "Can you name the capital of {c}?",
    ),
)


def answer(country: str) -> str:
    """The answer as the model says it."""
    return f"The capital of {country} is {CAPITALS[country]}."


def word_question(rng: random.Random, country: str, *, wording: Split) -> str:
    """A question for the capital of `country`."""
    text = WORDINGS.draw(rng, wording).format(c=country)
    return text[0].upper() + text[1:]


def _unknown_country(rng: random.Random) -> Turn:
    typing = Typing.draw(rng)
    country = draw_name(rng, Split.TRAIN) + rng.choice(("", "ia", "land", "stan"))
    user = typing.apply(word_question(rng, country, wording=Split.TRAIN))
    return Turn(user, f"I do not know the capital of {typing.case(country)}.")


def draw_turn(rng: random.Random) -> Turn:
    """A random country with its capital; now and then one that does not exist."""
    if rng.random() < 0.05:
        return _unknown_country(rng)
    country = rng.choice(COUNTRIES)
    user = Typing.draw(rng).apply(word_question(rng, country, wording=Split.TRAIN))
    return Turn(user, answer(country))
