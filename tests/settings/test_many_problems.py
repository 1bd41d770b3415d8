"""Many mistakes at once, and files of any shape: nothing hides, nothing falls over."""

from gateway.settings import check

METER_2, PUMP = "bus[0].device[1]", "bus[1].device[0]"


def test_forty_mistakes_are_forty_problems_in_the_order_of_their_lines(site_file):
    devices = "".join(
        f'[[bus.device]]\nname = "Meter {n}"\nprofile = "eastron-sdm63x"\naddress = {300 + n}\nevery = {n}\n'
        for n in range(9)
    )
    site_file.text = f"""\
[gateway]
id = "a b"
[uplink]
brokers = ["ioc"]
window = 0
[store]
linger = 1
[[bus]]
name = "b"
serial = {{ port = "/dev/x" }}
{devices}"""
    site, problems = check(site_file.saved())
    assert site is None
    assert len(problems) == 4 + 9 * 4
    assert [problem.line for problem in problems] == sorted(problem.line for problem in problems)
    assert len({(problem.line, problem.path) for problem in problems}) == 40
    assert all(problem.advice for problem in problems if problem.path != "uplink.window")


def test_a_wrong_value_does_not_hide_a_rule_that_is_broken_elsewhere(site_file):
    site_file.replaced("address = 2", 'address = 1\n  every = "never"').replaced('"u32"', '"u33"')
    _, problems = check(site_file.saved())
    assert [problem.path for problem in problems] == [f"{METER_2}.address", f"{METER_2}.every", f"{PUMP}.point[0].type"]


def test_no_shape_of_a_file_makes_the_rules_fall_over(site_file):
    """Rules read the raw document: whatever stands where a table, list or text belongs must end in a problem."""
    wrong = ["1", '"x"', "true", "[]", "[1]", "{}", "{ x = 1 }", "[{ x = 1 }]", "[[1]]", "1979-05-27", "nan"]
    shapes = [
        "bus = {}",
        "gateway = {}",
        "uplink = {}",
        "store = {}",
        "uplink.brokers = {}",
        "store.keep_acked = {}",
        "store.path = {}",
        "[[bus]]\nserial = {}",
        "[[bus]]\ntcp = {}",
        "[[bus]]\ntcp.host = {}",
        "[[bus]]\nserial.port = {}",
        "[[bus]]\nname = {}",
        "[[bus]]\nframing = {}",
        "[[bus]]\nserial.format = {}",
        "[[bus]]\ndevice = {}",
        "[[bus]]\n[[bus.device]]\npoint = {}",
        "[[bus]]\n[[bus.device]]\npoints = {}",
        "[[bus]]\n[[bus.device]]\nprofile = {}",
        "[[bus]]\n[[bus.device]]\ndriver = {}",
        "[[bus]]\n[[bus.device]]\naddress = {}",
        "[[bus]]\n[[bus.device]]\nname = {}",
        '[[bus]]\n[[bus.device]]\nprofile = "eastron-sdm630"\npoints.voltage_l1 = {}',
        '[[bus]]\n[[bus.device]]\nprofile = "eastron-sdm630"\npoints.voltage_l1.low = {}',
        "[[bus]]\n[[bus.device]]\npoint = [{ name = {}, kind = {}, low = {}, high = {}, bit = {}, sentinels = {} }]",
    ]
    for shape in shapes:
        for value in wrong:
            site_file.text = shape.replace("{}", value)
            site, problems = check(site_file.saved())
            assert site is None
            assert problems


def test_options_that_are_wrong_are_told_with_the_keys_they_may_have(site_file):
    site_file.replaced('driver = "modbus"', 'driver = "modbus"\noptions = { max_register = 5 }')
    _, [problem] = check(site_file.saved())
    assert problem.path == f"{PUMP}.options.max_register"
    assert "max_registers" in problem.advice


def test_too_many_labels_are_refused(site_file):
    many = ", ".join(f'"{code}" = "x"' for code in range(257))
    site_file.replaced('    kind = "counter"', f"    labels = {{ {many} }}")
    _, [problem] = check(site_file.saved())
    assert "more than 256" in problem.text
