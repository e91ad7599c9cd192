"""The functions of 2016, under the name that programs import: `from datarun import post_api`.

Each speaks to a gateway over HTTP and returns the `requests.Response`: `.ok`, `.reason` and
`.json()` say what became of it. `datarun status --json` says host_url, username and password.

    post_data, then post_split or custom_post_split        register a data set, and split it
    post_submission_fold                                    send a submission on a CV fold
    get_prediction_list, get_prediction_new                 collect predictions, times and logs
    get_raw_data, get_submission_fold, get_submission_fold_light, get_submission_fold_detail
                                                            see what there is, and how it stands
"""

from producer import post_api as _functions
from producer.post_api import *  # noqa: F403 - this module is that one, by another name

__all__ = list(_functions.__all__)
