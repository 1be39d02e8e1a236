import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(ROOT)], check=True)
    return next(folder.glob("lens_core-*.whl"))


def requirements(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {requirement.name: requirement for requirement in found}


def test_the_wheel_holds_the_library_and_its_models_only(wheel):
    """Forbids an installed package without its model, or one that brings the app or the tests."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"lens_core"}
    shipped = {name.removeprefix("lens_core/_models/") for name in names if "_models/" in name}
    models = {path.parent.name for path in ROOT.glob("content/models/*/config.json")}
    glass = {"glass-copy", "glass-facts", "glass-induction", "glass-lookup"}
    assert {"tiny-world", *glass} <= models
    files = ("config.json", "model.safetensors", "tokenizer.json", "README.md")
    assert {f"{model}/{file}" for model in models for file in files} <= shipped
    assert not [name for name in shipped if "/checkpoints/" in name or name == "README.md"]
    lenses = {str(p.relative_to(ROOT / "content")) for p in ROOT.glob("content/lenses/*/*/*.safe*")}
    assert {name.replace("lenses/", "lens_core/_lenses/", 1) for name in lenses} <= set(names)
    assert "lens_core/_lenses/README.md" not in names
    assert "lens_core/py.typed" in names
    assert wheel.stat().st_size < 40e6


def test_the_installed_package_loads_its_model(wheel, tmp_path):
    """Forbids a package that finds its model only beside a checkout, or that imports the app's."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from lens_core.model.loading import load\n"
        "loaded = load('tiny-world')\n"
        "assert loaded.source == 'shipped'\n"
        "assert sys.argv[1] in str(sys.modules['lens_core.model.loading'].__file__)\n"
        "absent = {'streamlit', 'plotly', 'circuitsvis'} & set(sys.modules)\n"
        "assert not absent, absent\n"
    )
    command = [sys.executable, "-I", "-c", script, str(tmp_path)]
    subprocess.run(command, check=True, cwd=tmp_path)


def test_pins_are_within_the_declared_ranges():
    """Forbids two dependency lists that drift apart: the tested one and the declared one."""
    pinned = requirements("requirements.txt") | requirements("requirements-dev.txt")
    extras = PROJECT["optional-dependencies"]
    declared = [
        Requirement(text) for text in (*PROJECT["dependencies"], *extras["app"], *extras["dev"])
    ]
    for requirement in declared:
        pin = next(iter(pinned[requirement.name].specifier))
        assert pin.operator != "==" or pin.version in requirement.specifier, requirement
    assert {requirement.name for requirement in declared} == pinned.keys()


def test_supported_pythons_are_declared_alike():
    """Forbids a classifier for a Python that requires-python turns away, or the other way round."""
    supported = Requirement(f"python{PROJECT['requires-python']}").specifier
    declared = {text for text in PROJECT["classifiers"] if "Python :: 3." in text}
    assert declared == {
        f"Programming Language :: Python :: 3.{minor}"
        for minor in range(9, 20)
        if f"3.{minor}" in supported
    }
