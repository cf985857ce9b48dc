"""The largest curvature of functions whose Hessian is known."""

import pytest
import torch
from torch import nn

from unet.training.curvature import along, descend, largest_curvature


def test_a_quadratic_has_the_curvature_of_its_matrix():
    a = torch.diag(torch.tensor([1.0, -7.0, 3.0, 0.5]))
    q, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))
    matrix = q @ a @ q.T
    x, y = torch.randn(3, requires_grad=True), torch.randn(1, requires_grad=True)  # one vector in two parameters

    def loss():
        v = torch.cat([x, y])
        return 0.5 * v @ matrix @ v + v.sum()

    found = largest_curvature(loss, [x, y], 200, tolerance=1e-6)
    assert found.value == pytest.approx(-7.0, rel=1e-4)
    assert found.residual < 1e-4
    vector = torch.cat(found.direction)
    assert abs(float(vector @ q[:, 1])) == pytest.approx(1.0, abs=1e-4)
    assert x.grad is None


def test_a_network_has_the_largest_eigenvalue_of_its_full_hessian():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    inputs, targets = torch.randn(20, 3), torch.randint(0, 2, (20,))
    parameters = list(model.parameters())

    def loss():
        return nn.functional.cross_entropy(model(inputs), targets)

    def of(vector):
        parts, at = {}, 0
        for name, p in model.named_parameters():
            parts[name] = vector[at : at + p.numel()].view_as(p)
            at += p.numel()
        return nn.functional.cross_entropy(torch.func.functional_call(model, parts, (inputs,)), targets)

    flat = torch.cat([p.detach().reshape(-1) for p in parameters])
    eigenvalues = torch.linalg.eigvalsh(torch.autograd.functional.hessian(of, flat))
    found = largest_curvature(loss, parameters, 500, tolerance=1e-5)
    assert found.value == pytest.approx(float(eigenvalues[eigenvalues.abs().argmax()]), rel=1e-3)
    again = largest_curvature(loss, parameters, 1, start=found.direction)
    assert again.value == pytest.approx(found.value, rel=1e-3)


def test_a_plane_has_none():
    x = torch.ones(2, requires_grad=True)
    assert largest_curvature(lambda: (x**2).sum() * 0 + x.sum(), [x]).value == 0.0


def test_a_descent_is_that_of_the_optimizer_and_a_parabola_is_seen_along_its_direction():
    x = torch.tensor([1.0, 1.0], requires_grad=True)
    scale = torch.tensor([4.0, 1.0])

    def loss():
        return 0.5 * (scale * x**2).sum()

    seen = descend(loss, torch.optim.SGD([x], lr=0.1), updates=4, every=2)
    assert seen.updates == (0, 2, 4)
    assert x.tolist() == pytest.approx([0.6**4, 0.9**4])  # each coordinate times 1 - rate x curvature
    assert seen.losses == pytest.approx([2.5, 0.5 * (4 * 0.6**4 + 0.9**4), 0.5 * (4 * 0.6**8 + 0.9**8)])
    assert seen.curvatures == pytest.approx([4.0] * 3, rel=1e-2)
    before = x.tolist()
    left, middle, right = along(loss, [x], seen.direction, [-0.5, 0.0, 0.5])
    assert left + right - 2 * middle == pytest.approx(4.0 * 0.25, rel=1e-2)
    assert x.tolist() == before
