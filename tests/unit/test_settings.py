"""The settings' file: what it may say, and what is said of one that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from semtrace.errors import UsageError
from semtrace.settings import Settings, as_json, as_toml, config_path, load, state_path


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_without_a_file_all_is_as_it_comes(tmp_path: Path) -> None:
    assert load(tmp_path / "none.toml") == Settings()


def test_every_setting_is_taken(tmp_path: Path) -> None:
    text = (
        'interval = 1\nascii = true\nsignals = true\nremember = false\nfolder = "/tmp"\n'
        'ignore = ["shop.lock"]\n[keys]\npause = ["z", "f12"]\n'
    )
    assert load(written(tmp_path, text)) == Settings(1.0, True, True, False, "/tmp", ("shop.lock",), {"pause": "z,f12"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("interval = ", "is not valid TOML"),
        ("interval = 'fast'", "interval must be a number"),
        ("interval = true", "interval must be a number"),
        ("interval = 0", "interval must be 0.05 to 3600"),
        ("interval = nan", "interval must be 0.05 to 3600"),
        ("ascii = 1", "ascii must be true or false"),
        ("colour = 'red'", "there is no setting 'colour'"),
        ('folder = "~no-such-user/x"', "folder '~no-such-user/x' is in nobody's home"),
        ("ignore = 'shop.lock'", "ignore must be a list of texts"),
        ("ignore = [3]", "ignore must be a list of texts"),
        ("keys = 3", "keys must be a table"),
        ("[keys]\npause = []", "keys.pause must be a key"),
        ("[keys]\npause = 3", "keys.pause must be a key"),
    ],
)
def test_error_names_the_file_and_what_would_be_right(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match=says) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_file_of_other_bytes_or_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not valid TOML"):
        load(tmp_path / "config.toml")
    with pytest.raises(UsageError, match="cannot read"):
        load(tmp_path)
    (tmp_path / "big.toml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(UsageError, match="larger"):
        load(tmp_path / "big.toml")


def test_the_places_are_those_of_the_freedesktop_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/h")
    assert config_path() == Path("/c/semtrace/config.toml")
    assert state_path() == Path("/h/.local/state/semtrace/view.json")


def test_user_without_a_home_has_the_default_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert load() == Settings()
    assert state_path().is_absolute()


def test_config_prints_the_effective_settings_so_they_can_be_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "semtrace").mkdir()
    assert as_json()["exists"] is False
    assert {each["from"] for each in as_json()["settings"].values()} == {"default"}
    path = written(tmp_path / "semtrace", 'interval = 0.5\nignore = ["a.b"]\n[keys]\npause = ["z", "f12"]\n')
    found = as_json()
    assert (found["file"], found["exists"]) == (str(path), True)
    assert {name for name, each in found["settings"].items() if each["from"] == "file"} == {
        "interval",
        "ignore",
        "keys",
    }
    before = load()
    path.write_text("\n".join(as_toml()).replace("\n# interval", "\ninterval"))
    assert load() == before


def test_files_go_below_home_unless_another_folder_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/h")
    assert Settings().saves_in == Path("/h/semtrace")
    assert Settings(folder="here").saves_in == Path.cwd() / "here", "as somebody asked for"
