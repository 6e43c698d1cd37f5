import random
from itertools import islice

import pytest

from models.pocket.training import arithmetic, capitals, conversions, recall, smalltalk, stories
from models.pocket.training.cases import TASKS, held_out_cases, is_right
from models.pocket.training.conversations import stream
from models.pocket.training.dialogue import Memory, Turn
from models.pocket.training.names import draw_name, real_names
from models.pocket.training.split import Phrasings, Split, side_of


def test_the_same_seed_gives_the_same_conversations():
    assert list(islice(stream(3), 50)) == list(islice(stream(3), 50))
    assert list(islice(stream(3), 50)) != list(islice(stream(4), 50))


def test_roles_alternate_after_an_optional_system_prompt():
    for messages in islice(stream(0), 300):
        roles = [message["role"] for message in messages]
        if roles[0] == "system":
            roles = roles[1:]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(message["content"].strip() for message in messages)


def test_arithmetic_sides_are_disjoint_and_one_tenth_is_held_out():
    train, held_out = (set(arithmetic.problems(side)) for side in Split)
    assert not train & held_out
    assert len(train) + len(held_out) == 2 * 100 * 100
    assert 0.08 < len(held_out) / 20000 < 0.12


def test_training_answers_are_right_and_never_a_held_out_problem():
    rng = random.Random(0)
    answers = {arithmetic.draw_turn(rng).assistant for _ in range(5000)} - {arithmetic.TOO_BIG}
    assert not answers & {problem.answer for problem in arithmetic.problems(Split.HELD_OUT)}
    for answer in answers:
        expression, result = answer.rstrip(".").split(" = ")
        assert eval(expression) == int(result)


def test_held_out_conversions_are_not_trained_on():
    rng = random.Random(0)
    answers = {conversions.draw_turn(rng).assistant for _ in range(5000)}
    held_out = {c.answer for group in conversions.conversions(Split.HELD_OUT) for c in group}
    assert held_out
    assert not answers & held_out


def test_names_keep_to_their_side():
    rng = random.Random(0)
    for side in Split:
        assert all(side_of("name", draw_name(rng, side)) is side for _ in range(500))
    assert real_names(Split.HELD_OUT)


def test_phrasings_cannot_be_on_both_sides():
    for topic in (recall.NAME, *recall.TOPICS):
        for phrasings in (topic.tell, topic.ask):
            assert not set(phrasings.of(Split.TRAIN)) & set(phrasings.of(Split.HELD_OUT))
    with pytest.raises(ValueError, match="'b'"):
        Phrasings(["a", "b"], ["b"])


def test_story_subjects_keep_to_their_side():
    rng = random.Random(0)
    told = {stories.draw_turn(rng).assistant.split(" lived ")[0].split()[-1] for _ in range(2000)}
    assert not told & set(stories.subjects(Split.HELD_OUT))


def test_recall_copies_what_was_typed():
    rng = random.Random(1)
    for topic in (recall.NAME, *recall.TOPICS):
        memory = Memory()
        assert "have not told" in recall.ask_turn(rng, memory, topic, Split.TRAIN).assistant
        told = recall.tell_turn(rng, memory, topic, Split.TRAIN)
        value = memory.told[topic.name]
        assert value in told.user
        assert value in told.assistant
        assert value in recall.ask_turn(rng, memory, topic, Split.TRAIN).assistant


def test_there_are_more_than_a_hundred_capitals():
    assert len(capitals.CAPITALS) > 100
    assert capitals.answer("France") == "The capital of France is Paris."


def test_held_out_cases_are_stable_and_cover_every_task():
    cases = held_out_cases(per_task=20)
    assert cases == held_out_cases(per_task=20)
    assert [case.task for case in cases] == [task for task in TASKS for _ in range(20)]
    assert (
        held_out_cases(per_task=5, tasks=("names",))
        == [case for case in cases if case.task == "names"][:5]
    )


def test_held_out_questions_are_never_asked_in_training():
    trained = {m["content"] for messages in islice(stream(1), 3000) for m in messages}
    for case in held_out_cases(per_task=100, tasks=("arithmetic", "capitals", "open-ended")):
        assert case.messages[-1]["content"] not in trained


def test_right_answers_are_told_from_wrong_ones():
    for case in held_out_cases(per_task=50):
        assert not is_right(case, "")
    reference: dict[str, Turn] = {s.key: Turn("", s.answer) for s in smalltalk.PROJECT}
    for case in held_out_cases(per_task=50, tasks=("smalltalk",)):
        if case.expected in reference:
            assert is_right(case, reference[case.expected].assistant)
    problem = held_out_cases(per_task=1, tasks=("arithmetic",))[0]
    assert is_right(problem, f"1 + 1 = {problem.expected}.")
    assert not is_right(problem, f"1 + 1 = {problem.expected}0.")
