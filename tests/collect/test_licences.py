import pytest

from imgclf.collect import licences


@pytest.mark.parametrize(
    ("name", "version", "expected", "is_commercial"),
    [
        ("by", "2.0", "CC BY 2.0", True),  # Openverse
        ("by-nc-sa", "2.0", "CC BY-NC-SA 2.0", False),
        ("by-nd", "3.0", "CC BY-ND 3.0", True),
        ("cc0", "1.0", "CC0 1.0", True),
        ("pdm", "1.0", "Public domain", True),
        ("sampling+", "1.0", "sampling+", False),
        ("nc-sampling+", "1.0", "nc-sampling+", False),
        ("cc-by-nc", "4.0", "CC BY-NC 4.0", False),  # iNaturalist
        ("cc-by-sa", "4.0", "CC BY-SA 4.0", True),
        ("pd", "", "Public domain", True),
        ("gfdl", "", "gfdl", True),
        ("CC BY-SA 4.0", "", "CC BY-SA 4.0", True),  # Wikimedia Commons
        ("CC BY-SA 3.0 de", "", "CC BY-SA 3.0 de", True),
        ("CC BY-SA 4.0,3.0,2.5,2.0,1.0", "", "CC BY-SA 4.0,3.0,2.5,2.0,1.0", True),
        ("CC0", "", "CC0", True),
        ("Public domain", "", "Public domain", True),
        ("No restrictions", "", "No restrictions", True),
        ("Attribution", "", "Attribution", True),
        ("Copyrighted free use", "", "Copyrighted free use", True),
        ("Fair use", "", "Fair use", False),
        ("Attribution-NonCommercial", "", "Attribution-NonCommercial", False),
        ("All rights reserved", "", "All rights reserved", False),
        ("by the author", "", "by the author", False),
        ("", "", "", False),
        ("", "4.0", "", False),
    ],
)
def test_a_licence_has_one_spelling_and_commercial_use_must_be_known(name, version, expected, is_commercial):
    licence = licences.normalised(name, version)
    assert licence == licences.normalised(licence) == expected
    assert licences.allows_commercial_use(licence) == is_commercial


@pytest.mark.parametrize(
    ("licence", "url"),
    [
        ("CC BY-SA 4.0", "https://creativecommons.org/licenses/by-sa/4.0/"),
        ("CC BY 2.0", "https://creativecommons.org/licenses/by/2.0/"),
        ("CC BY-SA 3.0 de", "https://creativecommons.org/licenses/by-sa/3.0/de/"),
        ("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
        ("CC BY", ""),
        ("Public domain", ""),
        ("", ""),
    ],
)
def test_the_deed_of_a_creative_commons_licence(licence, url):
    assert licences.deed(licence) == url
