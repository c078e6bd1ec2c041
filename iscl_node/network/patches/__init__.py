"""What pynetdicom does otherwise than the node needs: one file for each patch, with what it replaces and why.

====================  =======================================  ==================================================
patch                 replaces                                 because pynetdicom 3.0.4
====================  =======================================  ==================================================
association_requests  DULServiceProvider._decode_pdu           aborts at titles and items as devices write them
broken_message        DIMSEServiceProvider.receive_primitive   lets the reading thread die of a broken message
broken_negotiation    ACSE.negotiate_association               lets the association's thread die of what is missing
broken_pdu            StateMachine.do_action                   lets the reading thread die of a broken PDU
discarded             adds to DIMSEMessage.decode_msg            collects a message of any size in memory
event_reports         Association._serve_request               serves a report in a thread while a release waits
pdu_reader            AssociationSocket.recv                   reads any length that is announced, without a limit
requests_in_turn      Association._serve_request               starts a thread for each report that comes
responses             DIMSEServiceProvider.get_msg             lets its reactor take what another thread waits for
stored_file           Association.send_c_store                 decodes and encodes what goes as its file is
wake_ups              the sleeps of both reactors              sleeps a millisecond at each request and response
waiting               adds to AA-8 of the state machine        leaves who waits for an answer to the time-out
====================  =======================================  ==================================================

Written for the exact version that pyproject.toml pins. ``tests/network/test_patches.py`` fails when the replaced code
changes: then look whether the patch is still needed.
"""
