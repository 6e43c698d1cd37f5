from models.pocket.training.cases import held_out_cases
from models.pocket.training.evaluate import evaluate, report


class KnowingBackend:
    """Answers each conversation with what its case expects, but for one task."""

    def __init__(self, cases, *, silent_task):
        self.answers = {
            str(case.messages): "" if case.task == silent_task else case.expected for case in cases
        }
        self.batch_sizes = []

    def generate(self, conversations):
        self.batch_sizes.append(len(conversations))
        return [self.answers[str(messages)] for messages in conversations]


def test_each_task_is_scored_apart():
    cases = held_out_cases(per_task=9, tasks=("arithmetic", "capitals", "facts"))
    backend = KnowingBackend(cases, silent_task="capitals")
    scores = evaluate(backend, cases, batch_size=10)
    assert backend.batch_sizes == [10, 10, 7]
    assert {task: score.accuracy for task, score in scores.items()} == {
        "arithmetic": 1.0,
        "capitals": 0.0,
        "facts": 1.0,
    }
    assert len(scores["capitals"].mistakes) == 9


def test_the_report_has_a_row_for_each_task():
    cases = held_out_cases(per_task=4, tasks=("names", "facts"))
    scores = evaluate(KnowingBackend(cases, silent_task="facts"), cases)
    assert report({"float32": scores}).splitlines()[2:] == [
        "| names | 4 | 100.0 % |",
        "| facts | 4 | 0.0 % |",
    ]
