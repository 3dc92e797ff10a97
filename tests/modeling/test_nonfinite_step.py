import pytest


@pytest.mark.parametrize("n_labeled, n_unlabeled", [(0, 1), (1, 0), (2, 1)])
def test_boxes_that_are_nan_make_every_loss_nan_and_every_parameter_takes_part(
    n_labeled, n_unlabeled, build, labeled, unlabeled
):
    """A rank that raised would leave the others waiting for its gradients."""
    model = build()
    samples = [labeled(n) for n in range(n_labeled)] + [unlabeled(n) for n in range(n_unlabeled)]
    healthy = model(samples)
    for parameter in model.student.proposal_generator.parameters():
        parameter.data.fill_(float("nan"))
    losses = model(samples)
    assert losses.keys() == healthy.keys()
    assert all(loss.isnan() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.student.parameters() if p.requires_grad)
