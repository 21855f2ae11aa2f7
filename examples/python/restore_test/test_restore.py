import sessions


def test_a_clone_has_another_token(sysgenid_restore):
    before = sessions.token()
    sysgenid_restore()
    assert sessions.token() != before
