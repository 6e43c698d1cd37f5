"""Names: real ones and ones made of syllables, so that recall is learnt as copying."""

from __future__ import annotations

import random
from functools import cache

from models.pocket.training.split import Split, items_of, side_of

REAL_NAMES = tuple(
    """
    Ada Adam Ahmed Aiko Aisha Alan Alba Alex Alice Alina Amara Amelie Amir Amy Ana Anders Andrea
    Andrew Anika Anna Anton Aria Arjun Arthur Astrid Ava Ayla Bao Bart Bea Ben Bianca Bjorn Bob
    Bruno Camila Carl Carla Carlos Carmen Chen Chidi Chloe Clara Claire Cora Dana Daniel Daria
    David Deniz Diana Diego Dina Dmitri Dora Ed Edith Elena Eli Elias Elif Elin Ella Elsa Emeka
    Emil Emily Emma Enzo Eric Erik Esra Eva Eve Fatima Felix Fiona Finn Frank Freya Frida Gabriel
    George Gina Giulia Grace Greta Hana Hannah Hans Hassan Hector Helen Henry Hiro Hugo Ian Ibrahim
    Ida Igor Imani Ines Ingrid Irene Iris Isaac Isla Ivan Jack Jada James Jan Jane Jasmin Javier
    Jean Jenny Joan Johan John Jonas Jorge Jose Judy Julia Jun Kai Kamal Karim Karin Kate Kenji
    Khalid Kim Klara Kofi Kurt Lars Laura Layla Lea Lee Leila Lena Leo Leon Li Lia Liam Lina Linh
    Lisa Liu Lola Louis Luca Lucas Lucia Luis Luka Luna Lucy Magnus Maja Malik Mara Marco Maria
    Marie Marina Mario Mark Marta Martin Mary Mateo Matt Maya Mei Mia Mika Milan Mila Mina Mira
    Mohamed Mona Nadia Naomi Nia Nico Nils Nina Noah Noor Nora Oda Olga Oliver Olivia Omar Oscar
    Otto Pablo Paul Paula Pedro Peter Petra Pia Priya Quinn Rafael Raj Rania Ravi Rita Robin Rosa
    Ruth Ryan Sadia Sam Samira Sana Sara Sasha Sean Selma Sergei Silvia Simon Sofia Sonja Stefan
    Sven Tara Tariq Theo Thomas Tim Tina Tom Tomas Uma Ursula Vera Victor Viktor Wanda Wei Will
    Yara Yasmin Yuki Yusuf Zara Zoe
    """.split()
)
_ONSETS = tuple(
    "b br c ch d dr f fl g gr h j k kl l m n p pl qu r s sh sk st t th tr v w y z".split()
)
_VOWELS = tuple("a e i o u a e i o ai ee ia oo".split())
_CODAS = ("",) * 6 + tuple("n r l s m k x th nd".split())


def _made_up(rng: random.Random) -> str:
    syllables = (
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)
        for _ in range(rng.choice((1, 2, 2, 2, 3)))
    )
    return "".join(syllables).capitalize()


@cache
def real_names(split: Split) -> list[str]:
    """The real names of one side."""
    return items_of(split, "name", REAL_NAMES)


def draw_name(rng: random.Random, split: Split) -> str:
    """A real or a made-up name of one side."""
    if rng.random() < 0.3:
        return rng.choice(real_names(split))
    while True:
        name = _made_up(rng)
        if side_of("name", name) is split:
            return name
