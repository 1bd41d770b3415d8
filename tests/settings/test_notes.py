"""What is allowed and yet worth a remark, and the loss window that is stated."""

import pytest

from gateway.settings import load, loss_sentence, loss_window, notes


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('["mqtts://ioc.example.vn:8883"]', '["mqtt://10.0.0.1"]\ninsecure = true', "unprotected"),
        ('username = "u"\npassword_file = "/etc/gateway/secret"\n', "", "neither certificate nor user name"),
        ("[uplink]", '[clock]\ntrust = "system"\n[uplink]', "the clock is believed"),
        ("baud = 9600", "baud = 96000", "did you mean 9600"),
        ("/dev/ttyGOOD", "/dev/ttyUSB0", "by-path"),
        ("[uplink]", '[uplink]\nconfirm = "puback"', "3.1.1"),
        ("[store]\n", '[[bus]]\nname = "new"\nserial = { port = "/dev/n" }\n[store]\n', "no device yet"),
    ],
)
def test_what_is_allowed_and_yet_worth_a_remark(site_file, old, new, text):
    if text != "3.1.1":
        site_file.replaced("[uplink]", '[uplink]\nconfirm = "ioc"')
        assert notes(load(site_file.saved())) == []
    site_file.replaced(old, new)
    [note] = notes(load(site_file.saved()))
    assert text in note


def test_a_gateway_without_bus_is_worth_a_remark(site_file):
    site_file.text = site_file.text[: site_file.text.index("[[bus]]")].replace("[uplink]", '[uplink]\nconfirm = "ioc"')
    [note] = notes(load(site_file.saved()))
    assert "nothing will be read" in note


def test_the_loss_window_is_stated(site_file):
    site_file.replaced("[store]", '[store]\nlinger = "500ms"\ncommit_every = "2s"')
    site = load(site_file.saved())
    assert loss_window(site) == 2.5
    assert "at most the last 2.5s" in loss_sentence(site)
    site_file.replaced("[store]", '[store]\ndurability = "strict"')
    assert "nothing that was published" in loss_sentence(load(site_file.saved()))
